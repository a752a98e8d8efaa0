//! `hash`: digests and keyed digests (HMAC) of joined values.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::transforms::hex;
use crate::limits::TEMPLATE_BYTES_PER_STEP;
use crate::template::error::RenderError;
use crate::template::item::Item;
use crate::template::render::Renderer;
use crate::template::syntax::{Call, Expression};

/// A digest takes a while whatever its text.
pub(super) const STEPS_PER_DIGEST: usize = 10;

/// A digest, by its names in Java's `MessageDigest` and `Mac`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

const EXPECTED_ALGORITHM: &str = "expected MD5, SHA-1, SHA-224, SHA-256, SHA-384 or SHA-512 in algorithm=…, \
                                  with useSecretKey=\"true\" HmacMD5, HmacSHA1, … HmacSHA512";

impl Algorithm {
    fn from_name(name: &str, keyed: bool) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let digest = if keyed { name.strip_prefix("hmac")? } else { &*name };
        Some(match digest {
            "md5" => Self::Md5,
            "sha1" | "sha-1" | "sha" => Self::Sha1,
            "sha224" | "sha-224" => Self::Sha224,
            "sha256" | "sha-256" => Self::Sha256,
            "sha384" | "sha-384" => Self::Sha384,
            "sha512" | "sha-512" => Self::Sha512,
            _ => return None,
        })
    }

    fn digest(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => Md5::digest(text).to_vec(),
            Self::Sha1 => Sha1::digest(text).to_vec(),
            Self::Sha224 => Sha224::digest(text).to_vec(),
            Self::Sha256 => Sha256::digest(text).to_vec(),
            Self::Sha384 => Sha384::digest(text).to_vec(),
            Self::Sha512 => Sha512::digest(text).to_vec(),
        }
    }

    fn keyed_digest(self, key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        /// A key of any length is valid, so the result is always there.
        macro_rules! mac {
            ($digest:ty) => {
                Hmac::<$digest>::new_from_slice(key).ok()?.chain_update(text).finalize().into_bytes().to_vec()
            };
        }
        Some(match self {
            Self::Md5 => mac!(Md5),
            Self::Sha1 => mac!(Sha1),
            Self::Sha224 => mac!(Sha224),
            Self::Sha256 => mac!(Sha256),
            Self::Sha384 => mac!(Sha384),
            Self::Sha512 => mac!(Sha512),
        })
    }
}

/// Checks the literal options when compiling.
pub(super) fn check(call: &Call) -> Result<(), String> {
    if call.option("algorithm").is_none() {
        return Err(EXPECTED_ALGORITHM.to_owned());
    }
    let is_literal = |name| !matches!(call.option(name), Some(Expression::Path(_) | Expression::List(_)));
    let keyed = literal_is(call, "useSecretKey", "true");
    if is_literal("algorithm") && is_literal("useSecretKey") {
        let name = call.literal_option("algorithm").unwrap_or_default();
        Algorithm::from_name(name, keyed).ok_or(EXPECTED_ALGORITHM)?;
    }
    let joined = call.operands.len().saturating_sub(usize::from(keyed));
    if joined == 0 {
        return Err("expected a value after the secret key in `hash`".to_owned());
    }
    if joined > 1 && call.option("joinOn").is_none() {
        return Err(
            "expected the option joinOn=… in `hash` of several values; joinOn=\"\" joins with nothing"
                .to_owned(),
        );
    }
    for (option, first, second) in [
        ("encodingCharset", "UTF-8", "US-ASCII"),
        ("binaryEncoding", "base64", "hex"),
        ("binaryEncodingOptions", "lowercase", "uppercase"),
    ] {
        if let Some(value) = call.literal_option(option)
            && ![first, second].iter().any(|known| known.eq_ignore_ascii_case(value))
        {
            return Err(format!("expected {first} or {second} in {option}=…"));
        }
    }
    Ok(())
}

fn literal_is(call: &Call, option: &str, value: &str) -> bool {
    match call.option(option) {
        Some(Expression::Literal(literal)) => literal.to_string().eq_ignore_ascii_case(value),
        Some(Expression::Path(_) | Expression::List(_)) | None => false,
    }
}

impl<'a> Renderer<'a> {
    /// `hash algorithm="…" … a b`: joins the values and prints their digest, keyed with the first value if
    /// asked.
    pub(super) fn hash(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let keyed = self.option_is(call, "useSecretKey", "true")?;
        let ascii = self.option_is(call, "encodingCharset", "US-ASCII")?;
        let hexadecimal = self.option_is(call, "binaryEncoding", "hex")?;
        let upper_case = self.option_is(call, "binaryEncodingOptions", "uppercase")?;
        let join_on = self.option(call, "joinOn")?.map(|item| item.text().into_owned()).unwrap_or_default();
        let name = self.option(call, "algorithm")?.map(|item| item.text().into_owned()).unwrap_or_default();
        let algorithm = Algorithm::from_name(&name, keyed).ok_or_else(|| call.misuse(EXPECTED_ALGORITHM))?;

        let mut texts = Vec::with_capacity(call.operands.len());
        for index in 0..call.operands.len() {
            let item = self.required(call, index)?;
            self.budget.charge_value(&item).map_err(|exceeded| call.error(exceeded))?;
            texts.push(item.text().into_owned());
        }
        let (key, texts) = match texts.split_first() {
            Some((key, rest)) if keyed => (Some(key), rest),
            Some(_) | None => (None, texts.as_slice()),
        };
        let bytes = encode(&texts.join(&join_on), ascii);
        let steps = STEPS_PER_DIGEST + bytes.len() / TEMPLATE_BYTES_PER_STEP;
        self.budget.charge(steps).map_err(|exceeded| call.error(exceeded))?;
        let digest = match key {
            // An HMAC with an empty key proves nothing.
            Some(key) if key.is_empty() => None,
            Some(key) => algorithm.keyed_digest(&encode(key, ascii), &bytes),
            None => Some(algorithm.digest(&bytes)),
        };
        let digest = digest.ok_or_else(|| call.misuse("expected a secret key, found an empty one"))?;
        let text = match (hexadecimal, upper_case) {
            (false, _) => BASE64.encode(&digest),
            (true, false) => hex(&digest),
            (true, true) => hex(&digest).to_uppercase(),
        };
        self.emit(call, &Item::from_text(text))
    }

    fn option_is(&mut self, call: &'a Call, option: &str, value: &str) -> Result<bool, RenderError> {
        Ok(self.option(call, option)?.is_some_and(|item| item.text().eq_ignore_ascii_case(value)))
    }
}

/// Bytes in UTF-8, or in US-ASCII with a question mark for what it lacks, as Java encodes.
fn encode(text: &str, ascii: bool) -> Vec<u8> {
    if !ascii {
        return text.as_bytes().to_vec();
    }
    text.chars().map(|character| u8::try_from(character).ok().filter(u8::is_ascii).unwrap_or(b'?')).collect()
}
