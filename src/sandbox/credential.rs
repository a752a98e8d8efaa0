//! A call's access token and `appsecret_proof`: where they come from and whether they are valid.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::Sha256;

use super::graph_error::GraphError;
use super::magic;
use super::options::Options;

/// Where a token was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TokenSource {
    /// The `Authorization` header.
    Bearer,
    /// The `access_token` of the query.
    Query,
    /// The `access_token` of the JSON or form body.
    Body,
}

/// A token that is not empty, and the proof that came with it.
#[derive(Clone)]
pub(crate) struct Credential {
    token: String,
    pub(crate) source: TokenSource,
    proof: Option<String>,
}

/// Never shows the token.
impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credential").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Credential {
    /// Takes token and proof out of a call. The header goes before the query, the query before the
    /// body; `fallback` is the batch's credential for an item without its own.
    ///
    /// # Errors
    ///
    /// Error 104 if there is no token at all.
    pub(crate) fn take(
        authorization: Option<&str>,
        query: &mut Map<String, Value>,
        body: &mut Map<String, Value>,
        fallback: Option<&Self>,
    ) -> Result<Self, GraphError> {
        let header = authorization.and_then(|value| {
            value
                .strip_prefix("Bearer ")
                .or_else(|| value.strip_prefix("OAuth "))
                .map(|token| token.trim().to_owned())
        });
        let (in_query, in_body) = (take_text(query, "access_token"), take_text(body, "access_token"));
        let (proof_in_query, proof_in_body) =
            (take_text(query, "appsecret_proof"), take_text(body, "appsecret_proof"));
        let proof = proof_in_query.or(proof_in_body);
        let own =
            [(header, TokenSource::Bearer), (in_query, TokenSource::Query), (in_body, TokenSource::Body)]
                .into_iter()
                .find_map(|(token, source)| Some((token.filter(|token| !token.is_empty())?, source)));
        match (own, fallback) {
            (Some((token, source)), _) => Ok(Self { token, source, proof }),
            (None, Some(fallback)) => {
                Ok(Self { proof: proof.or_else(|| fallback.proof.clone()), ..fallback.clone() })
            }
            (None, None) => Err(GraphError::known(104, None)),
        }
    }

    /// Whether the token, and the proof if the app asks for one, are valid.
    ///
    /// # Errors
    ///
    /// 190 for the token, 100 for the proof.
    pub(crate) fn check(&self, options: &Options) -> Result<(), GraphError> {
        if let Some(error) = magic::token_error(&self.token) {
            return Err(error);
        }
        if options.access_token.as_ref().is_some_and(|valid| *valid != self.token) {
            return Err(GraphError::known(190, None));
        }
        let Some(secret) = &options.app_secret else {
            return Ok(());
        };
        let refusal =
            |text: &str| GraphError::known(100, None).bare_text(text.to_owned()).kind("GraphMethodException");
        match &self.proof {
            None => Err(refusal("API calls from the server require an appsecret_proof argument")),
            Some(proof) if is_proof(proof, secret, &self.token) => Ok(()),
            Some(_) => Err(refusal("Invalid appsecret_proof provided in the API argument")),
        }
    }

    /// Whether the token's page may send.
    pub(crate) fn check_sending(&self) -> Result<(), GraphError> {
        magic::sending_error(&self.token).map_or(Ok(()), Err)
    }

    pub(crate) fn has_proof(&self) -> bool {
        self.proof.is_some()
    }

    /// The page that `me` stands for: the digits the token ends with, or 1 without any.
    pub(crate) fn page_id(&self) -> &str {
        let digits = self.token.bytes().rev().take_while(u8::is_ascii_digit).count();
        match self.token.get(self.token.len() - digits..) {
            Some(digits) if !digits.is_empty() => digits,
            Some(_) | None => "1",
        }
    }
}

fn take_text(parameters: &mut Map<String, Value>, key: &str) -> Option<String> {
    match parameters.shift_remove(key)? {
        Value::String(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// HMAC-SHA256 of the token with the app secret as key, in lower-case hex.
fn is_proof(proof: &str, secret: &str, token: &str) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return false;
    };
    mac.update(token.as_bytes());
    proof == hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn proof_of_the_known_vector() {
        let proof = "e220691b3e23647fc17c4b282bb469ac77fbadb8f5c77898294e42de95add560";
        assert!(is_proof(proof, "12345678", "12345678"));
        assert!(!is_proof(&proof.to_uppercase(), "12345678", "12345678"));
        assert!(!is_proof(proof, "12345678", "123456789"));
    }

    #[test]
    fn tokens_are_taken_from_everywhere_and_leave_the_parameters() {
        let mut query = members(json!({"access_token": "in-query"}));
        let mut body = members(json!({"access_token": "in-body-7", "appsecret_proof": "p", "tag": "t"}));
        let both = Credential::take(Some("Bearer header-1001"), &mut query.clone(), &mut body.clone(), None)
            .unwrap();
        assert_eq!((both.source, both.page_id()), (TokenSource::Bearer, "1001"));
        let queried = Credential::take(None, &mut query, &mut body, None).unwrap();
        assert_eq!((queried.source, queried.page_id()), (TokenSource::Query, "1"));
        assert!(queried.has_proof());
        assert_eq!(body, members(json!({"tag": "t"})));
        assert!(Credential::take(Some("Basic x"), &mut query, &mut body, None).is_err());
        assert!(Credential::take(None, &mut query, &mut body, Some(&both)).is_ok());
    }
}
