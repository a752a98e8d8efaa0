//! The address of a Graph host.

use std::fmt;

use anyhow::{Context, ensure};
use http::uri::{Authority, Scheme, Uri};

/// Where Graph is, such as `https://graph.facebook.com`: a scheme, a host, perhaps a port and the beginning of a path, and
/// nothing else. Its text is safe to be shown to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    is_tls: bool,
    host: String,
    port: u16,
    /// Host, and port if it is not the scheme's own.
    authority: Authority,
    /// Without a slash at its end.
    path: String,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// If it is none of a host that speaks HTTP, or has parts that a Graph call would not carry: user name and password,
    /// query, fragment. The error does not quote the address, which may hold a password.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let url =
            url::Url::parse(url).context("the address of graph must look like https://graph.facebook.com")?;
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => anyhow::bail!("the address of graph must begin with https:// or http://"),
        };
        ensure!(
            url.username().is_empty() && url.password().is_none(),
            "the address of graph must not hold a user name or password: pages are sent for with their access tokens"
        );
        ensure!(
            url.query().is_none() && url.fragment().is_none(),
            "the address of graph must end with its host or path: remove what begins with ? or #"
        );
        let host =
            url.host_str().filter(|host| !host.is_empty()).context("the address of graph has no host")?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port: url.port_or_known_default().unwrap_or_default(),
            authority: authority.parse().context("the address of graph has an odd host")?,
            path: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// True if calls to it are encrypted.
    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Name or number of the host; of IPv6 with brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The address alone, for a connection.
    pub(super) fn origin(&self) -> Result<Uri, http::Error> {
        Uri::builder().scheme(self.scheme()).authority(self.authority.clone()).path_and_query("/").build()
    }

    fn scheme(&self) -> Scheme {
        if self.is_tls { Scheme::HTTPS } else { Scheme::HTTP }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}{}", self.scheme(), self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_nothing_that_a_call_would_not_carry() {
        let table = [
            ("https://graph.facebook.com", Ok("https://graph.facebook.com")),
            ("https://graph.facebook.com/", Ok("https://graph.facebook.com")),
            ("https://graph.facebook.com:443", Ok("https://graph.facebook.com")),
            ("http://127.0.0.1:8080/fake/", Ok("http://127.0.0.1:8080/fake")),
            ("http://[::1]:8080", Ok("http://[::1]:8080")),
            ("https://ann:secret@graph.facebook.com", Err("user name or password")),
            ("https://:secret@graph.facebook.com", Err("user name or password")),
            ("https://graph.facebook.com?access_token=secret", Err("remove what begins with ?")),
            ("https://graph.facebook.com#secret", Err("remove what begins with ?")),
            ("ftp://graph.facebook.com", Err("https:// or http://")),
            ("unix:/secret", Err("https:// or http://")),
            ("graph.facebook.com", Err("must look like")),
            ("https://", Err("must look like")),
        ];
        for (url, expected) in table {
            match (Address::parse(url), expected) {
                (Ok(address), Ok(expected)) => assert_eq!(address.to_string(), expected, "{url}"),
                (Err(error), Err(expected)) => {
                    let shown = format!("{error:#}");
                    assert!(shown.contains(expected) && !shown.contains("secret"), "{url}: {shown}");
                }
                (parsed, _) => panic!("{url}: {parsed:?}"),
            }
        }
    }
}
