//! The image sizes that the window of a pool requires, by its attributes.
//!
//! Not here: checks of these sizes (`guard`), proofs that they hold (`window_proof`).

use super::traverse;
use proto::onnx::{AttributeProto, NodeProto};

/// The image sizes that a pool requires.
pub(super) struct Window {
    /// The first axis that the window covers.
    pub(super) first_axis: usize,
    /// The smallest size along each axis.
    pub(super) sizes: Vec<i64>,
}

impl Window {
    /// Whether some images with elements are too small for it.
    pub(super) fn is_larger_than_pads(&self) -> bool {
        self.sizes.iter().any(|&size| size > 1)
    }

    /// The window of a pool; `None` if its attributes do not give it.
    pub(super) fn of(node: &NodeProto) -> Option<Self> {
        let known = |name: &str| match traverse::attribute(node, name) {
            Some(attribute) if !attribute.ref_attr_name().is_empty() => None,
            found => Some(found),
        };
        let ints = |name: &str| Some(known(name)?.map_or(&[][..], |it| it.ints.as_slice()));
        let kernel = ints("kernel_shape")?;
        let (pads, dilations) = (ints("pads")?, ints("dilations")?);
        let auto_pad = known("auto_pad")?.map_or(&b""[..], AttributeProto::s);
        let is_last = known("channels_last")?.is_some_and(|it| it.i() != 0);
        let size = |(axis, kernel): (usize, &i64)| {
            let at = |values: &[i64], index: usize| values.get(index).copied().unwrap_or(0);
            let dilation = at(dilations, axis).max(1);
            let window = kernel
                .saturating_sub(1)
                .saturating_mul(dilation)
                .saturating_add(1);
            let padded = match auto_pad {
                b"SAME_UPPER" | b"SAME_LOWER" => window,
                b"VALID" => 0,
                _ => at(pads, axis).saturating_add(at(pads, axis + pads.len() / 2)),
            };
            window.saturating_sub(padded).max(1)
        };
        Some(Self {
            first_axis: if is_last { 1 } else { 2 },
            sizes: kernel.iter().enumerate().map(size).collect(),
        })
    }
}
