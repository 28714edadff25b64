//! The equations of `Einsum`.

use crate::refusal::Refusal;

type Result<T> = std::result::Result<T, Refusal>;

/// The name of an axis: a letter, or a number from the end of those that `...` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Letter(u8),
    Broadcast(usize),
}

pub(super) type Labels = Vec<Label>;

pub(super) fn broken() -> Refusal {
    Refusal::new("has an equation that does not fit its inputs")
}

/// Reads the names of one input or of the result. `broadcast` says how many axes `...` stands for; without it
/// there is `None` for a text with `...`.
pub(super) fn labels(text: &str, broadcast: Option<usize>) -> Result<Option<Labels>> {
    let mut result = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match first {
            b' ' => rest = after,
            b'.' => {
                rest = rest.strip_prefix(b"...").ok_or_else(broken)?;
                let Some(count) = broadcast else {
                    return Ok(None);
                };
                result.extend((0..count).rev().map(Label::Broadcast));
            }
            letter if letter.is_ascii_alphabetic() => {
                result.push(Label::Letter(*letter));
                rest = after;
            }
            _ => return Err(broken()),
        }
    }
    Ok(Some(result))
}

/// How many axes `...` stands for in an input of this rank.
pub(super) fn hidden(text: &str, rank: Option<usize>) -> Result<Option<usize>> {
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    if !text.contains("...") {
        return match rank {
            Some(rank) if rank != letters => Err(broken()),
            _ => Ok(Some(0)),
        };
    }
    match rank {
        Some(rank) => Ok(Some(rank.checked_sub(letters).ok_or_else(broken)?)),
        None => Ok(None),
    }
}

/// Whether a name is there twice.
pub(super) fn has_twice(labels: &Labels) -> bool {
    (1..labels.len()).any(|it| labels[..it].contains(&labels[it]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_dots_stand_for_the_axes_without_a_letter() {
        assert_eq!(hidden("...ij", Some(4)).ok(), Some(Some(2)));
        assert_eq!(hidden("...ij", None).ok(), Some(None));
        assert!(hidden("...ij", Some(1)).is_err());
        assert!(hidden("ij", Some(3)).is_err());
        let two = labels("...i", Some(2)).ok().flatten();
        let expected = vec![
            Label::Broadcast(1),
            Label::Broadcast(0),
            Label::Letter(b'i'),
        ];
        assert_eq!(two, Some(expected));
    }
}
