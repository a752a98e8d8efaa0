//! TLS: certificates from files that are watched, and the names in client certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::Sha256;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::api::auth::CertificateNames;
use crate::config::SecurityOptions;
use crate::watched::{Watched, read_text};

/// TLS as the files have it at the moment.
pub(super) type Tls = Watched<TlsFiles, ServerConfig>;

/// Where certificates come from.
#[derive(Debug)]
pub(super) struct TlsFiles {
    certificates: PathBuf,
    key: PathBuf,
    client_authorities: Option<PathBuf>,
}

/// Reads the certificates, if TLS is configured.
///
/// # Errors
/// Names the file that cannot be used.
pub(super) fn load(options: &SecurityOptions) -> anyhow::Result<Option<Arc<Tls>>> {
    let (Some(certificates), Some(key)) = (options.tls_cert.clone(), options.tls_key.clone()) else {
        return Ok(None);
    };
    let files = TlsFiles { certificates, key, client_authorities: options.tls_client_ca.clone() };
    Ok(Some(Arc::new(Watched::load("TLS certificates", files, read)?)))
}

fn read(files: &TlsFiles, hash: &mut Sha256) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificates = certificates(&files.certificates, hash)?;
    let key = read_text(&files.key, hash)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .with_context(|| format!("{} holds no private key in PEM form", files.key.display()))?;
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut authorities = RootCertStore::empty();
            for certificate in self::certificates(path, hash)? {
                authorities.add(certificate).with_context(|| path.display().to_string())?;
            }
            // A client without a certificate may still ask for health, or show a key.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
                .allow_unauthenticated()
                .build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certificates, key).with_context(|| {
        format!("{} and {} do not go together", files.certificates.display(), files.key.display())
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path, hash: &mut Sha256) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = read_text(path, hash)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is not in PEM form", path.display()))?;
    ensure!(!certificates.is_empty(), "{} holds no certificate", path.display());
    Ok(certificates)
}

/// The names in a client's certificate: DNS names and URIs of its subject alternative name, or else its common name.
pub(super) fn names(certificate: &CertificateDer<'_>) -> CertificateNames {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return CertificateNames(Arc::default());
    };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => None,
        })
        .collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.take(1).map(str::to_owned));
    }
    CertificateNames(names.into())
}
