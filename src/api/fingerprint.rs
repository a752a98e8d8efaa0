//! What tells a request from another one with the same id: a hash of all that the caller asked for.
//!
//! It is taken before rendering, so that a template which prints the time stays the same request.

use prost::Message;
use sha2::{Digest, Sha256};

use super::pb;

/// Hash of a request.
pub type Fingerprint = [u8; 16];

/// What the items of a bulk have in common, hashed once.
#[derive(Debug)]
pub struct Fingerprints {
    start: Sha256,
}

impl Fingerprints {
    /// For the items of the bulk that `start` opens.
    pub fn of_bulk(start: &pb::BulkStart) -> Self {
        let shared = pb::BulkStart {
            action: start.action.clone(),
            options: start.options.clone(),
            quick_reply_mapping: start.quick_reply_mapping.clone(),
            ..pb::BulkStart::default()
        };
        Self { start: Sha256::new_with_prefix(shared.encode_to_vec()) }
    }

    /// For an item of the bulk.
    pub fn of_item(&self, item: &pb::BulkItem) -> Fingerprint {
        shortened(self.start.clone().chain_update(item.encode_to_vec()))
    }
}

/// For a unary message: the same fields as an item's.
pub fn of_unary(
    recipient: Option<&pb::Recipient>,
    options: Option<&pb::SendOptions>,
    kind: Option<&pb::action::Kind>,
    variables: Option<&prost_types::Struct>,
) -> Fingerprint {
    let item = pb::BulkItem {
        item_id: String::new(),
        recipient: recipient.cloned(),
        variables: variables.cloned(),
        action: kind.map(|kind| Box::new(pb::Action { kind: Some(kind.clone()) })),
        options: options.cloned().map(Box::new),
    };
    shortened(Sha256::new_with_prefix(item.encode_to_vec()))
}

/// Half of the hash: enough to tell a caller's own requests apart.
fn shortened(hash: Sha256) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    fingerprint.iter_mut().zip(hash.finalize()).for_each(|(short, byte)| *short = byte);
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::SendOptions;

    #[test]
    fn every_part_of_a_request_counts() {
        let recipient =
            |id: &str| pb::Recipient { identifier: Some(pb::recipient::Identifier::Id(id.into())) };
        let item = |id: &str| pb::BulkItem { recipient: Some(recipient(id)), ..Default::default() };
        let start = |text: &str| {
            let text = pb::TextMessage { text: text.into(), extras: None };
            let action = Some(pb::Action { kind: Some(pb::action::Kind::Text(text)) });
            Fingerprints::of_bulk(&pb::BulkStart { action, ..Default::default() })
        };
        assert_eq!(start("a").of_item(&item("1")), start("a").of_item(&item("1")));
        assert_ne!(start("a").of_item(&item("1")), start("a").of_item(&item("2")));
        assert_ne!(start("a").of_item(&item("1")), start("b").of_item(&item("1")));
        let strict = SendOptions { strict_variables: true, ..Default::default() };
        assert_ne!(
            of_unary(None, Some(&strict), None, None),
            of_unary(None, Some(&SendOptions::default()), None, None)
        );
    }
}
