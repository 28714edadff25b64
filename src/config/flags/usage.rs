//! The usage text, in TensorFlow Serving's format.

use super::declare::Slot;
use super::table::{FLAGS, Flags};

impl Flags {
    /// The text for `--help`, for wrong values and for unknown arguments: each flag with its
    /// default, its type and its help (`tsl::Flags::Usage`).
    pub fn usage(program: &str) -> String {
        let mut defaults = Self::default();
        let mut text = format!("usage: {program}\nFlags:\n");
        for flag in FLAGS {
            let (default, type_name) = match (flag.slot)(&mut defaults) {
                Slot::Int32(value) => (value.to_string(), "int32"),
                Slot::Int64(value) => (value.to_string(), "int64"),
                Slot::Bool(value) => (value.to_string(), "bool"),
                Slot::String(value) => (format!("\"{value}\""), "string"),
                Slot::Float(value) => (format!("{value:.6}"), "float"),
            };
            let assignment = format!("--{}={default}", flag.name);
            text.push_str(&format!(
                "\t{assignment:<33}\t{type_name}\t{}\n",
                flag.help()
            ));
        }
        text
    }
}
