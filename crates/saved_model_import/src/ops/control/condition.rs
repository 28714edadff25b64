//! `If` and `Case`: one of several functions is called.

use base::tensor::DataType;
use proto::onnx::GraphProto;
use proto::tensorflow::attr_value;

use super::{arguments, function, known_truth, truth, writes_nothing};
use crate::list::{Contents, How, List, Place, Stacked};
use crate::op::{Op, Translated};
use crate::ops::list::dense;
use crate::refusal::Refusal;
use crate::translation::Translation;
use crate::value::{Shape, Tensor, Value};

/// `If` and `StatelessIf`.
pub(super) fn condition(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let then = function(t, op, "then_branch")?;
    let otherwise = function(t, op, "else_branch")?;
    let values = arguments(t, op.inputs)?;
    let Some((Value::Tensor(condition), values)) = values.split_first() else {
        return Err(Refusal::new("has no condition"));
    };
    let condition = truth(&mut t.builder, condition)?;
    match known_truth(&condition) {
        Some(true) => t.call(then, values),
        Some(false) => t.call(otherwise, values),
        None => {
            let choice = Choice { op, values };
            choice.either(t, &condition, &mut |t| t.call(then, values), &mut |t| {
                t.call(otherwise, values)
            })
        }
    }
}

/// `Case` and `StatelessCase`: an index that is out of range chooses the last function.
pub(super) fn case(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let Some(attr_value::Value::List(list)) = op.attr("branches") else {
        return Err(Refusal::new("names no functions"));
    };
    let functions: Vec<&str> = list.func.iter().map(|it| it.name.as_str()).collect();
    for function in &functions {
        writes_nothing(t, function)?;
    }
    let values = arguments(t, op.inputs)?;
    let (Some((Value::Tensor(index), values)), Some(last)) =
        (values.split_first(), functions.len().checked_sub(1))
    else {
        return Err(Refusal::new("has no index or no functions"));
    };
    if let Some(index) = index.int() {
        let index = usize::try_from(index).map_or(last, |it| it.min(last));
        return t.call(functions[index], values);
    }
    let last_index = i64::try_from(last).map_err(|_| Refusal::new("has too many functions"))?;
    let b = &mut t.builder;
    let index = b.cast(index, DataType::Int64)?;
    let (zero, last_index) = (b.i64(0), b.i64(last_index));
    let is_negative = b.compare("Less", &index, &zero)?;
    let index = b.choose(&is_negative, &last_index, &index)?;
    let index = b.binary("Min", &index, &last_index)?;
    let choice = Choice { op, values };
    choice.among(t, &index, &functions, 0)
}

/// A node that calls one of several functions with the same values.
struct Choice<'a> {
    op: &'a Op<'a>,
    values: &'a [Value],
}

type Branch<'b, 't> = &'b mut dyn FnMut(&mut Translation<'t>) -> Translated;

impl Choice<'_> {
    /// The function at an index, which counts from `first`: halves, so that the depth stays small.
    fn among<'t>(
        &self,
        t: &mut Translation<'t>,
        index: &Tensor,
        functions: &[&str],
        first: i64,
    ) -> Translated {
        let (before, after) = match functions {
            [only] => return t.call(only, self.values),
            _ => functions.split_at(functions.len() / 2),
        };
        let middle = i64::try_from(before.len())
            .ok()
            .and_then(|it| it.checked_add(first))
            .ok_or_else(|| Refusal::new("has too many functions"))?;
        let limit = t.builder.i64(middle);
        let is_before = t.builder.compare("Less", index, &limit)?;
        self.either(
            t,
            &is_before,
            &mut |t: &mut Translation<'t>| self.among(t, index, before, first),
            &mut |t: &mut Translation<'t>| self.among(t, index, after, middle),
        )
    }

    /// ONNX's `If`.
    fn either<'t>(
        &self,
        t: &mut Translation<'t>,
        condition: &Tensor,
        then: Branch<'_, 't>,
        otherwise: Branch<'_, 't>,
    ) -> Translated {
        let (first, one) = graph(t, then)?;
        let (second, two) = graph(t, otherwise)?;
        t.builder.set_label(&self.op.node.name);
        if one.len() != two.len() {
            return Err(Refusal::new(
                "calls functions with different numbers of results",
            ));
        }
        let pairs: Vec<(Value, Value)> = one.into_iter().zip(two).collect();
        let joins = pairs.iter().map(|(one, two)| Join::of(t, one, two));
        let joins = joins.collect::<Result<Vec<_>, _>>()?;
        let sides = pairs.iter().map(|it| &it.0);
        let (first, one) = outputs(t, first, &joins, sides)?;
        let sides = pairs.iter().map(|it| &it.1);
        let (second, two) = outputs(t, second, &joins, sides)?;
        let results = added(t, condition, (first, one), (second, two))?;
        let noted = self.op.attr_shapes("output_shapes");
        Ok(joined(pairs, joins, results, &noted))
    }
}

/// Adds the node with its branches, each with the tensors that are its outputs.
fn added(
    t: &mut Translation<'_>,
    condition: &Tensor,
    (first, one): (GraphProto, Vec<Tensor>),
    (second, two): (GraphProto, Vec<Tensor>),
) -> Result<Vec<Tensor>, Refusal> {
    if one.len() != two.len() {
        return Err(Refusal::new("has branches that do not match"));
    }
    if one.is_empty() {
        return Ok(Vec::new());
    }
    let mut types = Vec::with_capacity(one.len());
    for (one, two) in one.iter().zip(&two) {
        if one.dtype != two.dtype {
            return Err(Refusal::new(
                "has branches with results of different dtypes",
            ));
        }
        types.push((one.dtype, one.shape.common(&two.shape)));
    }
    let results = t
        .builder
        .op("If", &[condition])
        .graph("then_branch", first)
        .graph("else_branch", second)
        .many(types)?;
    let known = one.iter().zip(&two).map(|it| common_elements(it.0, it.1));
    let results = results.into_iter().zip(known);
    let results = results.map(|(result, known)| result.with_known(known));
    Ok(results.collect())
}

/// The outputs of the TensorFlow node; `results` are those of the ONNX node.
fn joined(
    pairs: Vec<(Value, Value)>,
    joins: Vec<Join>,
    results: Vec<Tensor>,
    noted: &[Shape],
) -> Vec<Value> {
    let mut results = results.into_iter();
    let outputs = pairs.into_iter().zip(joins).enumerate();
    let values = outputs.map(|(index, ((one, two), join))| match (join, one, two) {
        (Join::Same, Value::Tensor(mut one), Value::Tensor(two)) => {
            // Each branch can know the shape of its own case.
            one.shape = one.shape.common(&two.shape);
            Value::Tensor(one)
        }
        (Join::Same, value, _) => value,
        (Join::Tensor, _, _) => results.next().map_or(Value::Nothing, |it| {
            let noted = noted.get(index).cloned().unwrap_or_else(Shape::unknown);
            Value::Tensor(it.with_shape(noted))
        }),
        (Join::List { is_sized, .. }, Value::List(list), _) => {
            results.next().map_or(Value::Nothing, |tensor| {
                Value::List(list.with(Contents::Stacked(Stacked { tensor, is_sized })))
            })
        }
        (Join::Item { place, how }, Value::List(list), _) => {
            results.next().map_or(Value::Nothing, |item| {
                Value::List(list.with(Contents::Collected { place, how, item }))
            })
        }
        (Join::Nothing | Join::List { .. } | Join::Item { .. }, _, _) => Value::Nothing,
    });
    values.collect()
}

/// A branch in a graph of its own, with its results but without outputs yet.
fn graph<'t>(
    t: &mut Translation<'t>,
    branch: Branch<'_, 't>,
) -> Result<(GraphProto, Vec<Value>), Refusal> {
    t.builder.open_graph();
    let results = branch(t);
    let graph = t.builder.suspend_graph();
    Ok((graph, results?))
}

/// The common form of two results, one of each branch.
#[derive(Clone)]
enum Join {
    /// Both are the same value, from outside.
    Same,
    /// One of them was refused.
    Nothing,
    Tensor,
    /// The elements as a tensor.
    List {
        element: Shape,
        is_sized: bool,
    },
    /// The element that a loop collects.
    Item {
        place: Place,
        how: How,
    },
}

impl Join {
    fn of(t: &mut Translation<'_>, one: &Value, two: &Value) -> Result<Self, Refusal> {
        match (one, two) {
            (Value::Nothing, _) | (_, Value::Nothing) => Ok(Self::Nothing),
            (Value::Tensor(one), Value::Tensor(two)) => {
                let is_same = match (one.name(), two.name()) {
                    (Ok(one), Ok(two)) => one == two,
                    _ => false,
                };
                Ok(if is_same { Self::Same } else { Self::Tensor })
            }
            (Value::List(one), Value::List(two)) => Self::of_lists(t, one, two),
            (Value::Variable(one), Value::Variable(two))
            | (Value::Table(one), Value::Table(two))
                if one == two =>
            {
                Ok(Self::Same)
            }
            _ => Err(Refusal::new("chooses between two resources")),
        }
    }

    fn of_lists(t: &mut Translation<'_>, one: &List, two: &List) -> Result<Self, Refusal> {
        match (&one.contents, &two.contents) {
            (Contents::Collecting(one), Contents::Collecting(two)) if one == two => {
                return Ok(Self::Same);
            }
            (
                Contents::Collected { place, how, .. },
                Contents::Collected {
                    place: other,
                    how: other_how,
                    ..
                },
            ) if place == other && how == other_how => {
                return Ok(Self::Item {
                    place: *place,
                    how: *how,
                });
            }
            (Contents::Stacked(one), Contents::Stacked(two)) => {
                if let (Ok(one), Ok(two)) = (one.tensor.name(), two.tensor.name())
                    && one == two
                {
                    return Ok(Self::Same);
                }
            }
            _ => {}
        }
        let element = one.element_shape().merged(&two.element_shape());
        let mut wanted = None;
        for place in [one, two].into_iter().filter_map(List::place) {
            wanted = Some(t.loops.want(place, &element));
        }
        match wanted {
            Some(refusal) => Err(refusal),
            None => Ok(Self::List {
                is_sized: is_sized(one, &element) && is_sized(two, &element),
                element,
            }),
        }
    }
}

/// Whether the list is sized when it is stacked.
fn is_sized(list: &List, element: &Shape) -> bool {
    match &list.contents {
        Contents::Stacked(stacked) => stacked.is_sized,
        Contents::Items(items) if items.iter().any(Option::is_some) => true,
        _ => list.declared.merged(element).sizes().is_some(),
    }
}

/// Gives the graph of a branch its outputs.
fn outputs<'v>(
    t: &mut Translation<'_>,
    graph: GraphProto,
    joins: &[Join],
    results: impl Iterator<Item = &'v Value>,
) -> Result<(GraphProto, Vec<Tensor>), Refusal> {
    t.builder.reopen_graph(graph);
    let mut tensors = Vec::new();
    let mut failed = None;
    for (join, result) in joins.iter().zip(results) {
        match output(t, join, result) {
            Ok(tensor) => tensors.extend(tensor),
            Err(refusal) => failed = Some(refusal),
        }
    }
    let graph = t.builder.close_graph();
    match failed {
        Some(refusal) => Err(refusal),
        None => Ok((graph, tensors)),
    }
}

fn output(t: &mut Translation<'_>, join: &Join, result: &Value) -> Result<Option<Tensor>, Refusal> {
    let b = &mut t.builder;
    let tensor = match (join, result) {
        (Join::Tensor, Value::Tensor(tensor)) => tensor.clone(),
        (Join::List { element, .. }, Value::List(list)) => dense::stack(b, list, element)?.tensor,
        (Join::Item { .. }, Value::List(list)) => match &list.contents {
            Contents::Collected { item, .. } => item.clone(),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let wish = b.label().to_owned() + "/branch";
    b.output(&wish, &tensor)?;
    Ok(Some(tensor))
}

/// The elements that both have.
fn common_elements(one: &Tensor, two: &Tensor) -> Option<Vec<Option<i64>>> {
    let (one, two) = (one.elements()?, two.elements()?);
    let pairs = one.iter().zip(two);
    (one.len() == two.len()).then(|| {
        pairs
            .map(|(one, two)| one.filter(|it| Some(*it) == *two))
            .collect()
    })
}
