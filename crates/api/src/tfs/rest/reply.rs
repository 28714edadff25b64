//! The answer of a REST handler.

use bytes::Bytes;

use crate::access::AnsweredBy;
use crate::http_reply::JSON;
use base::id::ServableId;

/// A successful answer.
pub(super) struct Reply {
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// The servable that answered, and its signature.
    servable: Option<(ServableId, Option<String>)>,
}

impl Reply {
    /// A JSON document about states, which needs no servable.
    pub(super) fn states(body: impl Into<Bytes>) -> Self {
        Self {
            content_type: JSON,
            body: body.into(),
            servable: None,
        }
    }

    /// The answer of a servable, and of a signature if the call is about one.
    pub(super) fn of_servable(
        content_type: &'static str,
        body: impl Into<Bytes>,
        servable: ServableId,
        signature: Option<String>,
    ) -> Self {
        Self {
            content_type,
            body: body.into(),
            servable: Some((servable, signature)),
        }
    }

    pub(super) fn answered_by(&self) -> Option<AnsweredBy<'_>> {
        let (servable, signature) = self.servable.as_ref()?;
        Some(AnsweredBy {
            servable,
            signature: signature.as_deref(),
        })
    }
}
