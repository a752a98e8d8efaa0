//! Groups of rows as one JSON parameter: SQLite has no arrays.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::error::{LedgerError, Result};

/// One row: what it shares with its neighbours, its id, and its value.
pub(super) type Row<H, K, V> = (H, K, V);

/// `[[head, {id: value, …}], …]`: a head that neighbouring rows share is written once.
pub(super) fn grouped<H, K, V>(rows: &[Row<H, K, V>]) -> Result<String>
where
    H: PartialEq + Serialize,
    K: Serialize,
    V: Serialize,
{
    json(&Groups(rows))
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| LedgerError::refusal(format!("rows make no json: {error}")))
}

struct Groups<'a, H, K, V>(&'a [Row<H, K, V>]);

impl<H: PartialEq + Serialize, K: Serialize, V: Serialize> Serialize for Groups<'_, H, K, V> {
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

struct Items<'a, H, K, V>(&'a [Row<H, K, V>]);

impl<H, K: Serialize, V: Serialize> Serialize for Items<'_, H, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_map(Some(self.0.len()))?;
        for (_, id, value) in self.0 {
            items.serialize_entry(id, value)?;
        }
        items.end()
    }
}

/// Bytes as hexadecimal digits.
#[derive(PartialEq)]
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

/// A fingerprint as 32 hexadecimal digits, followed by an ordinal.
pub(super) struct Numbered<'a>(pub(super) &'a [u8; 16], pub(super) usize);

impl Serialize for Numbered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut digits = [0; 32];
        hex::encode_to_slice(self.0, &mut digits).map_err(serde::ser::Error::custom)?;
        let digits = std::str::from_utf8(&digits).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&format_args!("{digits}{}", self.1))
    }
}
