//! Groups of rows as one JSON parameter: SQLite has no arrays.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::error::{LedgerError, Result};

/// One row: what it shares with its neighbours, its id, and its value.
pub(super) type Row<'a, H, V> = (H, &'a str, V);

/// `[[head, {id: value, …}], …]`: a head that neighbouring rows share is written once.
pub(super) fn grouped<H: PartialEq + Serialize, V: Serialize>(rows: &[Row<'_, H, V>]) -> Result<String> {
    serde_json::to_string(&Groups(rows))
        .map_err(|error| LedgerError::refusal(format!("rows make no json: {error}")))
}

struct Groups<'a, H, V>(&'a [Row<'a, H, V>]);

impl<H: PartialEq + Serialize, V: Serialize> Serialize for Groups<'_, H, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut groups = serializer.serialize_seq(None)?;
        for group in self.0.chunk_by(|before, after| before.0 == after.0) {
            if let [(head, ..), ..] = group {
                groups.serialize_element(&(head, Items(group)))?;
            }
        }
        groups.end()
    }
}

struct Items<'a, H, V>(&'a [Row<'a, H, V>]);

impl<H, V: Serialize> Serialize for Items<'_, H, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_map(Some(self.0.len()))?;
        for (_, id, value) in self.0 {
            items.serialize_entry(id, value)?;
        }
        items.end()
    }
}

/// Bytes as hexadecimal digits.
pub(super) struct Hex<'a>(pub(super) &'a [u8; 16]);

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut digits = [0; 32];
        hex::encode_to_slice(self.0, &mut digits).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(std::str::from_utf8(&digits).map_err(serde::ser::Error::custom)?)
    }
}
