//! The form of a flag's declaration: the macro [`flags!`] and the types that it fills.
//!
//! Not here: the flags (`table`).

/// Declares a struct with a field for each flag, its default, and `FLAGS`, the definitions.
///
/// A declaration is `name: type = default`, with the help as its doc comment, and `=> effect` if the
/// flag's effect is not that of TensorFlow Serving. The struct also has `given`, the names of the
/// flags that were given.
macro_rules! flags {
    (
        $(#[$meta:meta])*
        $visibility:vis struct $flags:ident {
            $(
                $(#[doc = $help:literal])+
                $name:ident: $type:ty = $default:expr $(=> $effect:expr)?,
            )+
        }
    ) => {
        $(#[$meta])*
        $visibility struct $flags {
            $( $(#[doc = $help])+ pub $name: $type, )+
            /// The names of the flags that were given, even if with their default values.
            pub given: std::collections::BTreeSet<&'static str>,
        }

        impl Default for $flags {
            fn default() -> Self {
                Self {
                    $( $name: <$type as super::declare::Value>::from_literal($default), )+
                    given: std::collections::BTreeSet::new(),
                }
            }
        }

        /// All flags, in the order of the usage text.
        pub(super) static FLAGS: &[super::declare::Definition<$flags>] = &[
            $( super::declare::Definition {
                name: stringify!($name),
                slot: |flags| super::declare::Value::slot(&mut flags.$name),
                effect: super::declare::flags!(@effect $($effect)?),
                // Each line of a doc comment begins with a blank.
                lines_of_help: concat!($($help),+),
            }, )+
        ];
    };
    (@effect) => { super::declare::Effect::Real };
    (@effect $effect:expr) => { $effect };
}
pub(super) use flags;

/// One flag of the struct `F`.
pub(super) struct Definition<F> {
    pub(super) name: &'static str,
    /// The field with the value; also determines its type.
    pub(super) slot: for<'a> fn(&'a mut F) -> Slot<'a>,
    pub(super) effect: Effect,
    /// The help, with a blank before it.
    pub(super) lines_of_help: &'static str,
}

impl<F> Definition<F> {
    /// The text for `--help`.
    pub(super) fn help(&self) -> &'static str {
        self.lines_of_help.trim_start()
    }

    /// Whether the flag's value differs between the two.
    pub(super) fn differs(&self, a: &mut F, b: &mut F) -> bool {
        (self.slot)(a) != (self.slot)(b)
    }
}

/// A flag's field, with TensorFlow Serving's names of types.
#[derive(PartialEq)]
pub(super) enum Slot<'a> {
    Int32(&'a mut i32),
    Int64(&'a mut i64),
    Bool(&'a mut bool),
    String(&'a mut String),
    Float(&'a mut f32),
}

/// The effect of a flag in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The same as in TensorFlow Serving, or that of our own flag.
    Real,
    /// None, which does no harm: the reason is logged once.
    None(&'static str),
    /// The server cannot honour the flag and refuses to start; the reason is the error.
    Refused(&'static str),
}

/// A type that a flag can have.
pub(super) trait Value {
    /// The type of a default in a declaration.
    type Literal;

    fn from_literal(literal: Self::Literal) -> Self;

    fn slot(&mut self) -> Slot<'_>;
}

macro_rules! value {
    ($type:ty, $literal:ty, $slot:ident) => {
        impl Value for $type {
            type Literal = $literal;

            fn from_literal(literal: $literal) -> Self {
                literal.into()
            }

            fn slot(&mut self) -> Slot<'_> {
                Slot::$slot(self)
            }
        }
    };
}
value!(i32, i32, Int32);
value!(i64, i64, Int64);
value!(bool, bool, Bool);
value!(String, &'static str, String);
value!(f32, f32, Float);
