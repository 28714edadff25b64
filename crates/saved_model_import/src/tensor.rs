//! The known facts about a tensor of the graph that is being built: its dtype, its shape, small integers.
//!
//! Not here: the nodes that compute it (`builder`).

use std::cell::OnceCell;
use std::fmt;
use std::rc::Rc;

use base::tensor::{DataType, Element, Tensor as Elements};

use crate::refusal::Refusal;

/// Tensors of integers with at most this many elements are followed element by element.
pub(crate) const MAX_ELEMENTS: usize = 64;

/// A tensor of the graph that is being built.
///
/// ONNX Runtime has no complex numbers. A tensor of dtype complex64 (complex128) has TensorFlow's dtype and shape
/// here, but its name in the graph is that of a tensor of float (double) with one more dimension at the end: the
/// real and the imaginary part. Only the functions in `ops::complex` and `ops::signal` read and make such tensors;
/// `translation` refuses them for all other operators.
#[derive(Clone)]
pub(crate) struct Tensor {
    place: Place,
    /// The dtype in TensorFlow, which is the dtype in the ONNX graph too unless it is complex.
    pub(crate) dtype: DataType,
    /// As far as it is known.
    pub(crate) shape: Shape,
    /// The elements of a small tensor of integers, in row-major order, as far as they are known.
    elements: Option<Rc<[Option<i64>]>>,
}

#[derive(Clone)]
enum Place {
    /// An output of a node, or an input of the graph.
    Named(Rc<str>),
    Constant(Rc<Constant>),
    /// An optional input that is left out.
    Absent,
}

/// A constant, which becomes an initializer where a node first reads it.
pub(crate) struct Constant {
    pub(crate) elements: Elements,
    /// The name of the initializer.
    pub(crate) name: OnceCell<Rc<str>>,
}

impl Tensor {
    /// A tensor that the graph names.
    pub(crate) fn named(name: impl Into<Rc<str>>, dtype: DataType, shape: Shape) -> Self {
        Self {
            place: Place::Named(name.into()),
            dtype,
            shape,
            elements: None,
        }
    }

    /// A constant.
    pub(crate) fn constant(elements: Elements) -> Self {
        let shape = Shape::fixed(elements.shape());
        let known = known_elements(&elements);
        Self {
            dtype: elements.dtype(),
            shape,
            elements: known,
            place: Place::Constant(Rc::new(Constant {
                elements,
                name: OnceCell::new(),
            })),
        }
    }

    /// A constant made of this one, which keeps its name.
    pub(crate) fn replaced(&self, elements: Elements) -> Self {
        let tensor = Self::constant(elements);
        if let (Err(old), Err(new)) = (self.name(), tensor.name())
            && let Some(name) = old.name.get()
        {
            let _ = new.name.set(Rc::clone(name));
        }
        tensor
    }

    /// An optional input of an ONNX node that is left out.
    pub(crate) fn absent() -> Self {
        Self {
            place: Place::Absent,
            dtype: DataType::Float,
            shape: Shape::unknown(),
            elements: None,
        }
    }

    /// Whether it is an optional input that is left out.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.place, Place::Absent)
    }

    /// The name of a tensor that is not a constant; empty for one that is left out.
    pub(crate) fn name(&self) -> Result<&Rc<str>, &Rc<Constant>> {
        thread_local!(static EMPTY: &'static Rc<str> = Box::leak(Box::new(Rc::from(""))));
        match &self.place {
            Place::Named(name) => Ok(name),
            Place::Constant(constant) => Err(constant),
            Place::Absent => Ok(EMPTY.with(|it| *it)),
        }
    }

    /// The elements of a constant.
    pub(crate) fn as_constant(&self) -> Option<&Elements> {
        match &self.place {
            Place::Constant(constant) => Some(&constant.elements),
            _ => None,
        }
    }

    /// The single element of a constant of dtype `T` and any rank.
    pub(crate) fn as_scalar<T: Element + Copy>(&self) -> Option<T> {
        match self.as_constant()?.as_slice::<T>()? {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// The elements of a tensor of integers, as far as each is known.
    pub(crate) fn elements(&self) -> Option<&[Option<i64>]> {
        self.elements.as_deref()
    }

    /// The elements of a tensor of integers if all are known.
    pub(crate) fn ints(&self) -> Option<Vec<i64>> {
        if let Some(constant) = self.as_constant() {
            return integers(constant);
        }
        self.elements.as_deref()?.iter().copied().collect()
    }

    /// The only element of a tensor of integers.
    pub(crate) fn int(&self) -> Option<i64> {
        match self.ints()?.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// The same tensor with elements that became known. If all are, the tensor is replaced with a constant.
    pub(crate) fn with_elements(mut self, elements: Vec<Option<i64>>) -> Self {
        if elements.len() > MAX_ELEMENTS || self.as_constant().is_some() {
            return self;
        }
        // A number outside of the dtype wraps around when the model runs.
        let is_integer = int_constant(self.dtype, &[0], &[]).is_some();
        let fits = |it: &i64| !is_integer || int_constant(self.dtype, &[], &[*it]).is_some();
        let elements: Vec<Option<i64>> = elements.iter().map(|it| it.filter(fits)).collect();
        let all: Option<Vec<i64>> = elements.iter().copied().collect();
        if let Some((all, shape)) = all.zip(self.shape.sizes())
            && let Some(constant) = int_constant(self.dtype, &shape, &all)
        {
            return Self::constant(constant);
        }
        self.elements = Some(elements.into());
        self
    }

    /// The same tensor with these elements, if there are any.
    pub(crate) fn with_known(self, elements: Option<Vec<Option<i64>>>) -> Self {
        match elements {
            Some(elements) => self.with_elements(elements),
            None => self,
        }
    }

    /// The constant for a tensor of this dtype and shape, if all elements are known.
    pub(crate) fn folded(
        dtype: DataType,
        shape: &Shape,
        elements: Option<&[Option<i64>]>,
    ) -> Option<Self> {
        let open = Self::named("", dtype, shape.clone());
        let folded = open.with_elements(elements?.to_vec());
        folded.as_constant().is_some().then_some(folded)
    }

    /// The same tensor with a shape that is known better.
    pub(crate) fn with_shape(mut self, shape: Shape) -> Self {
        self.shape = self.shape.merged(&shape);
        self
    }

    /// The same tensor, of which only the rank is known.
    pub(crate) fn without_sizes(mut self) -> Self {
        self.shape = self
            .shape
            .rank()
            .map_or_else(Shape::unknown, Shape::of_rank);
        self
    }

    /// The number of dimensions, if known.
    pub(crate) fn rank(&self) -> Option<usize> {
        self.shape.rank()
    }

    /// The number of dimensions; a refusal that names the operation that has to know it.
    pub(crate) fn known_rank(&self, what: &str) -> Result<usize, Refusal> {
        self.rank()
            .ok_or_else(|| Refusal::new(format!("{what} of unknown rank")))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().map_or("constant", |it| it);
        write!(f, "{name}: {} {:?}", self.dtype, self.shape.0)
    }
}

/// Integers as a constant of dtype `dtype`; `None` for other dtypes, and for numbers that it cannot hold.
pub(crate) fn int_constant(dtype: DataType, shape: &[usize], values: &[i64]) -> Option<Elements> {
    fn of<T: Element + TryFrom<i64>>(shape: &[usize], values: &[i64]) -> Option<Elements> {
        let values = values.iter().map(|&it| T::try_from(it).ok());
        Elements::from_vec(shape, values.collect::<Option<Vec<T>>>()?)
    }
    match dtype {
        DataType::Int64 => of::<i64>(shape, values),
        DataType::Int32 => of::<i32>(shape, values),
        DataType::Int16 => of::<i16>(shape, values),
        DataType::Int8 => of::<i8>(shape, values),
        DataType::UInt8 => of::<u8>(shape, values),
        DataType::UInt16 => of::<u16>(shape, values),
        DataType::UInt32 => of::<u32>(shape, values),
        DataType::UInt64 => of::<u64>(shape, values),
        _ => None,
    }
}

/// The elements of a constant of integers.
fn integers(constant: &Elements) -> Option<Vec<i64>> {
    fn of<T: Element + Copy + TryInto<i64>>(constant: &Elements) -> Option<Vec<i64>> {
        let values = constant.as_slice::<T>()?.iter();
        values.map(|&it| it.try_into().ok()).collect()
    }
    match constant.dtype() {
        DataType::Int64 => of::<i64>(constant),
        DataType::Int32 => of::<i32>(constant),
        DataType::Int16 => of::<i16>(constant),
        DataType::Int8 => of::<i8>(constant),
        DataType::UInt8 => of::<u8>(constant),
        DataType::UInt16 => of::<u16>(constant),
        DataType::UInt32 => of::<u32>(constant),
        DataType::UInt64 => of::<u64>(constant),
        _ => None,
    }
}

fn known_elements(constant: &Elements) -> Option<Rc<[Option<i64>]>> {
    if constant.len() > MAX_ELEMENTS {
        return None;
    }
    let ints = integers(constant)?;
    Some(ints.into_iter().map(Some).collect())
}

/// The shape of a tensor as far as it is known: `None` if its rank is not, else each size or `None`.
///
/// TensorFlow's file states it. A client can send other sizes than an input declares, as with
/// TensorFlow; then the answer is an error, or that of TensorFlow's own optimiser, which believes them too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape(pub(crate) Option<Vec<Option<i64>>>);

impl Shape {
    /// Of unknown rank.
    pub(crate) fn unknown() -> Self {
        Self(None)
    }

    /// Of a scalar.
    pub(crate) fn scalar() -> Self {
        Self(Some(Vec::new()))
    }

    /// All sizes are known.
    pub(crate) fn fixed(sizes: &[usize]) -> Self {
        let sizes = sizes.iter().map(|&it| i64::try_from(it).ok());
        Self(Some(sizes.collect()))
    }

    /// The rank is known, and perhaps some sizes.
    pub(crate) fn dims(dims: impl IntoIterator<Item = Option<i64>>) -> Self {
        Self(Some(dims.into_iter().collect()))
    }

    /// Only the rank is known.
    pub(crate) fn of_rank(rank: usize) -> Self {
        Self(Some(vec![None; rank]))
    }

    /// The number of dimensions.
    pub(crate) fn rank(&self) -> Option<usize> {
        self.0.as_ref().map(Vec::len)
    }

    /// The size along an axis, which counts from the end if it is negative.
    pub(crate) fn dim(&self, axis: i64) -> Option<i64> {
        let dims = self.0.as_ref()?;
        let axis = match axis {
            0.. => axis,
            _ => axis.checked_add(i64::try_from(dims.len()).ok()?)?,
        };
        *dims.get(usize::try_from(axis).ok()?)?
    }

    /// All sizes if all are known.
    pub(crate) fn sizes(&self) -> Option<Vec<usize>> {
        let dims = self.0.as_ref()?.iter();
        dims.map(|it| usize::try_from((*it)?).ok()).collect()
    }

    /// The number of elements, if known.
    pub(crate) fn count(&self) -> Option<i64> {
        let dims = self.0.as_ref()?;
        dims.iter()
            .try_fold(1i64, |count, dim| count.checked_mul((*dim)?))
    }

    /// The facts that either knows. Where they contradict each other, this one counts.
    pub(crate) fn merged(&self, other: &Self) -> Self {
        match (&self.0, &other.0) {
            (Some(one), Some(two)) if one.len() == two.len() => {
                let dims = one.iter().zip(two);
                Self::dims(dims.map(|(one, two)| one.or(*two)))
            }
            (Some(_), _) => self.clone(),
            (None, _) => other.clone(),
        }
    }

    /// The facts that hold for both.
    pub(crate) fn common(&self, other: &Self) -> Self {
        match (&self.0, &other.0) {
            (Some(one), Some(two)) if one.len() == two.len() => {
                let dims = one.iter().zip(two);
                Self::dims(dims.map(|(one, two)| one.filter(|it| Some(*it) == *two)))
            }
            _ => Self::unknown(),
        }
    }

    /// The shape of the result if two tensors are broadcast against each other.
    pub(crate) fn broadcast(&self, other: &Self) -> Self {
        let (Some(one), Some(two)) = (&self.0, &other.0) else {
            return Self::unknown();
        };
        let rank = one.len().max(two.len());
        let at = |dims: &[Option<i64>], index: usize| match (index + dims.len()).checked_sub(rank) {
            Some(index) => dims[index],
            None => Some(1),
        };
        Self::dims(
            (0..rank).map(|index| match (at(one, index), at(two, index)) {
                (Some(1), size) | (size, Some(1)) => size,
                (Some(size), _) | (_, Some(size)) => Some(size),
                (None, None) => None,
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_outside_of_the_dtype_is_not_known() {
        let elements = vec![Some(1 << 40), Some(7)];
        let narrow = Tensor::named("x", DataType::Int32, Shape::fixed(&[2]));
        let narrow = narrow.with_elements(elements.clone());
        assert_eq!(narrow.elements(), Some(&[None, Some(7)][..]));
        let wide = Tensor::named("x", DataType::Int64, Shape::fixed(&[2]));
        assert_eq!(wide.with_elements(elements).ints(), Some(vec![1 << 40, 7]));
    }
}
