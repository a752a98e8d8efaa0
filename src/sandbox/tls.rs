//! The sandbox's certificate.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::Options;

/// How TLS names HTTP/2.
pub(crate) const HTTP2: &[u8] = b"h2";

/// TLS, if it is asked for.
pub(crate) fn acceptor(options: &Options) -> io::Result<Option<TlsAcceptor>> {
    let (Some(certificates), Some(key)) = (&options.tls_cert, &options.tls_key) else { return Ok(None) };
    let chain = CertificateDer::pem_file_iter(certificates).and_then(Iterator::collect);
    let chain = chain.map_err(|error| unusable(certificates, error))?;
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private_key))
        .map_err(|error| unusable(certificates, error))?;
    config.alpn_protocols = if options.http1_only { Vec::new() } else { vec![HTTP2.to_vec()] };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("cannot use {}: {error}", path.display()))
}
