//! Certificates for tests.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority that signs certificates, and the files it writes.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// The authority's own certificate in PEM form.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate in PEM form for these alternative names and this common name, and its key.
    pub fn sign(&self, names: &[&str], common_name: &str) -> (String, String) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        for name in names {
            let name = match name.contains("://") {
                true => rcgen::SanType::URI(name.try_into().unwrap()),
                false => rcgen::SanType::DnsName(name.try_into().unwrap()),
            };
            params.subject_alt_names.push(name);
        }
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// The files of a service with TLS, in a folder of its own.
pub struct Files {
    pub folder: tempfile::TempDir,
    pub authority: Authority,
}

impl Files {
    /// With a certificate for localhost.
    pub fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), authority: Authority::new() };
        std::fs::write(files.path("ca.pem"), files.authority.pem()).unwrap();
        let (certificate, key) = files.authority.sign(&["localhost"], "first");
        files.replace(&certificate, &key);
        files
    }

    /// Replaces the service's certificate and key, one file after the other.
    pub fn replace(&self, certificate: &str, key: &str) {
        std::fs::write(self.path("cert.pem"), certificate).unwrap();
        std::fs::write(self.path("key.pem"), key).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The options that make a service use them.
    pub fn arguments(&self) -> Vec<String> {
        ["--tls-cert", "cert.pem", "--tls-key", "key.pem"]
            .map(|word| if word.starts_with("--") { word.to_owned() } else { shown(&self.path(word)) })
            .to_vec()
    }
}

pub fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
