//! A request as the bytes that it is on the wire, decoded by whoever has the time.

use std::marker::PhantomData;

use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

/// A message of type `T` that has not been decoded.
#[derive(Clone, Debug)]
pub struct Raw<T> {
    bytes: Bytes,
    kind: PhantomData<fn() -> T>,
}

impl<T> Raw<T> {
    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl<T: Message + Default> Raw<T> {
    /// Decodes it.
    ///
    /// # Errors
    /// If it is no protobuf.
    pub(super) fn read(&self) -> Result<T, DecodeError> {
        T::decode(self.bytes.clone())
    }
}

impl<T> Default for Raw<T> {
    fn default() -> Self {
        Self { bytes: Bytes::new(), kind: PhantomData }
    }
}

/// What a gRPC library asks of a message.
impl<T> Message for Raw<T> {
    fn merge(&mut self, mut buf: impl Buf) -> Result<(), DecodeError> {
        // Shares the bytes that came in.
        self.bytes = buf.copy_to_bytes(buf.remaining());
        Ok(())
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: WireType,
        _: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), DecodeError> {
        // A request is a message, and never a field of one.
        Ok(())
    }

    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put(self.bytes.clone());
    }

    fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
    }
}
