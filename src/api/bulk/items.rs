//! A frame of items as the bytes that they are on the wire.

use prost::bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::limits::ITEMS_PER_FRAME_MAX;

/// Number of `BulkItems.items` in the contract.
const ITEMS_FIELD: u32 = 1;

/// The items of a frame, none of them decoded. It costs its bytes, however many items are in it.
#[derive(Debug)]
pub(super) struct ItemsFrame {
    bytes: Bytes,
    /// Items that are left in the bytes.
    count: usize,
}

/// Why bytes are no frame of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameFault {
    /// It holds more than [`ITEMS_PER_FRAME_MAX`].
    TooMany,
    Malformed,
}

impl ItemsFrame {
    /// Takes the bytes of a `BulkItems`, and counts what is in them.
    ///
    /// # Errors
    /// If they are no protobuf, or hold too many items.
    pub(super) fn new(bytes: Bytes) -> Result<Self, FrameFault> {
        let (mut rest, mut count) = (bytes.clone(), 0);
        while next(&mut rest)?.is_some() {
            count += 1;
            if count > ITEMS_PER_FRAME_MAX {
                return Err(FrameFault::TooMany);
            }
        }
        Ok(Self { bytes, count })
    }
}

impl Iterator for ItemsFrame {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        // The bytes were looked through before.
        let item = next(&mut self.bytes).ok().flatten()?;
        self.count -= 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for ItemsFrame {}

/// Takes the next item off the bytes.
fn next(bytes: &mut Bytes) -> Result<Option<Bytes>, FrameFault> {
    while bytes.has_remaining() {
        let (field, wire_type) = decode_key(bytes).map_err(|_| FrameFault::Malformed)?;
        if (field, wire_type) != (ITEMS_FIELD, WireType::LengthDelimited) {
            // A field of a later version.
            skip_field(wire_type, field, bytes, DecodeContext::default())
                .map_err(|_| FrameFault::Malformed)?;
            continue;
        }
        let length = decode_varint(bytes).map_err(|_| FrameFault::Malformed)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len());
        return length.map(|length| Some(bytes.split_to(length))).ok_or(FrameFault::Malformed);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::api::pb;

    fn frame(items: usize) -> pb::BulkItems {
        let item = |n: usize| pb::BulkItem { item_id: n.to_string(), ..Default::default() };
        pb::BulkItems { items: (0..items).map(item).collect() }
    }

    #[test]
    fn items_come_out_as_they_went_in_and_are_counted_first() {
        for count in [0, 1, 2, 300] {
            let sent = frame(count);
            // A field of a later version, in the middle.
            let bytes =
                [&frame(0).encode_to_vec()[..], b"\x10\x07", &sent.encode_to_vec(), b"\x10\x07"].concat();
            let mut items = ItemsFrame::new(bytes.into()).unwrap();
            for left in (0..count).rev() {
                let item = items.next().unwrap();
                assert_eq!(items.len(), left);
                assert_eq!(pb::BulkItem::decode(item).unwrap(), sent.items[count - 1 - left]);
            }
            assert_eq!(items.next(), None);
        }
    }

    #[test]
    fn more_items_than_a_frame_may_have_are_refused_as_are_bytes_that_are_no_protobuf() {
        let empty_items = |count: usize| Bytes::from([0x0a, 0x00].repeat(count));
        assert_eq!(ItemsFrame::new(empty_items(ITEMS_PER_FRAME_MAX)).unwrap().len(), ITEMS_PER_FRAME_MAX);
        assert_eq!(ItemsFrame::new(empty_items(ITEMS_PER_FRAME_MAX + 1)).unwrap_err(), FrameFault::TooMany);
        for bytes in [&b"\x0a"[..], b"\x0a\x05abcd", b"\x0a\xff\xff\xff\xff\x0f", b"\x07", &[0xff; 64]] {
            assert_eq!(ItemsFrame::new(Bytes::copy_from_slice(bytes)).unwrap_err(), FrameFault::Malformed);
        }
    }
}
