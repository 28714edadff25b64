//! The layout of RapidJSON's pretty writer: four spaces per level, and lists either with one element
//! per line or all on one line.

use super::string;

/// How the elements of a list are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    /// One element per line.
    Lines,
    /// All elements on one line (`kFormatSingleLineArray`).
    SingleLine,
}

/// Appends a line end and the indentation inside `depth` lists and objects.
pub fn new_line(depth: usize, out: &mut Vec<u8>) {
    out.push(b'\n');
    out.resize(out.len() + 4 * depth, b' ');
}

/// Appends `{`, a line with `key`, and its colon; the value has to follow.
pub fn open_object(key: &str, depth: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    write_key(key, depth + 1, out);
}

/// Appends a line with a key of an object inside `depth` levels, itself included.
pub fn write_key(key: &str, depth: usize, out: &mut Vec<u8>) {
    new_line(depth, out);
    string::write(key.as_bytes(), out);
    out.extend_from_slice(b": ");
}

/// Appends the end of an object that is not empty and is inside `depth` others.
pub fn close_object(depth: usize, out: &mut Vec<u8>) {
    new_line(depth, out);
    out.push(b'}');
}

/// Appends a list that is inside `depth` levels; `write` appends element after element.
pub fn write_list<T>(
    elements: impl IntoIterator<Item = T>,
    lists: Lists,
    depth: usize,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    let mut elements = elements.into_iter();
    out.push(b'[');
    if lists == Lists::SingleLine {
        if let Some(first) = elements.next() {
            write(first, out);
        }
        for element in elements {
            out.extend_from_slice(b", ");
            write(element, out);
        }
    } else if let Some(first) = elements.next() {
        let mut separator = vec![b','];
        new_line(depth + 1, &mut separator);
        out.extend_from_slice(&separator[1..]);
        write(first, out);
        for element in elements {
            out.extend_from_slice(&separator);
            write(element, out);
        }
        new_line(depth, out);
    }
    out.push(b']');
}
