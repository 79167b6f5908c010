//! Certificates of an authority that no system knows.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio_rustls::TlsAcceptor;

/// Issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM format.
pub struct Certificate {
    pub chain: String,
    pub key: String,
}

impl Certificate {
    /// Accepts TLS connections with this certificate.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::new(self.config(Arc::new(NoClientAuth))))
    }

    /// The same, from clients that present a certificate of this authority.
    pub(crate) fn acceptor_of_clients(&self, authority: &Authority) -> TlsAcceptor {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).expect("a certificate");
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        TlsAcceptor::from(Arc::new(self.config(verifier.expect("it has a root"))))
    }

    fn config(&self, clients: Arc<dyn ClientCertVerifier>) -> ServerConfig {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("supported");
        config.with_client_cert_verifier(clients).with_single_cert(chain, key).expect("they belong together")
    }
}

impl Authority {
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::default();
        // Authorities are told apart by name.
        let name = format!("Test authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// The authority's own certificate, in PEM format.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server with these names or addresses.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("valid names");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Certificate { chain: certificate.pem(), key: key.serialize_pem() }
    }
}
