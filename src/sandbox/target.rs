//! What the path of a Graph call names: a version, a page, an edge of it.

use percent_encoding::percent_decode_str;

use super::graph_error::GraphError;
use super::version::GraphVersion;

/// The path of a call, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) version: Option<GraphVersion>,
    pub(crate) node: Node,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// `/`, the place of batches.
    Root,
    /// `/{page}`; `me` is not resolved yet.
    Page(String),
    /// `/{page}/messages`.
    Messages(String),
    /// `/{page}/message_attachments`.
    Uploads(String),
}

impl Target {
    /// Reads a path, or a batch item's `relative_url` without its query.
    ///
    /// # Errors
    ///
    /// 2500 for a path that leads nowhere, 803 for a page that cannot be one.
    pub(crate) fn parse(path: &str) -> Result<Self, GraphError> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
        let version = segments.peek().and_then(|segment| segment.parse().ok());
        if version.is_some() {
            segments.next();
        }
        let node = match (segments.next(), segments.next(), segments.next()) {
            (None, _, _) => Node::Root,
            (Some(page), None, _) => Node::Page(page_id(page)?),
            (Some(page), Some("messages"), None) => Node::Messages(page_id(page)?),
            (Some(page), Some("message_attachments"), None) => Node::Uploads(page_id(page)?),
            (Some(_), Some(edge), _) => {
                let text = format!("Unknown path components: /{edge}");
                return Err(GraphError::known(2500, None).bare_text(text));
            }
        };
        Ok(Self { version, node })
    }
}

/// An id or alias of a page.
fn page_id(segment: &str) -> Result<String, GraphError> {
    let id = percent_decode_str(segment).decode_utf8_lossy();
    if id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return Ok(id.into_owned());
    }
    Err(GraphError::with_text(803, "Some of the aliases you requested do not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let page = |id: &str| id.to_owned();
        let cases = [
            ("/", Some((None, Node::Root))),
            ("/v25.0/", Some((Some("v25.0"), Node::Root))),
            ("/v25.0/me/messages", Some((Some("v25.0"), Node::Messages(page("me"))))),
            ("1001/messages", Some((None, Node::Messages(page("1001"))))),
            ("/v18.0/1001/message_attachments", Some((Some("v18.0"), Node::Uploads(page("1001"))))),
            ("/v25.0/1001", Some((Some("v25.0"), Node::Page(page("1001"))))),
            ("/v25/1001/messages", None),
            ("/1001/feed", None),
            ("/1001/messages/2", None),
            ("/10%2F01/messages", None),
        ];
        for (path, expected) in cases {
            let expected = expected.map(|(version, node)| Target {
                version: version.map(|text: &str| text.parse().unwrap()),
                node,
            });
            assert_eq!(Target::parse(path).ok(), expected, "{path}");
        }
    }
}
