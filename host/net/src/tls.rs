//! TLS to agents: which authorities are trusted.
//!
//! The system's certificates are read at the first connection that needs them: reading takes tens of
//! milliseconds, and many servers have agents over plain HTTP only.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use local_files::{FileError, SETTINGS_BYTES};
use rustls::{
    AlertDescription, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use rustls_native_certs::CertificateResult;
use tokio::{net::TcpStream, sync::OnceCell, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};

use crate::limits::HANDSHAKE_TIMEOUT;

/// Variable that names a file with certificates of authorities, which replace the system's.
const SYSTEM_FILE: &str = "SSL_CERT_FILE";

/// Certificates of authorities that agents' certificates may be signed by, besides the system's.
#[derive(Debug, Clone, Default)]
pub struct AgentAuthorities(Vec<CertificateDer<'static>>);

/// Why a file of authorities can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// The file can't be read.
    #[error("cannot read {} (see AGENT_CA_FILE)", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: FileError,
    },
    /// One of its certificates is no PEM.
    #[error("cannot read the certificates in {} (see AGENT_CA_FILE)", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate that can be an authority's.
    #[error("{} has no certificate of an authority, as PEM (see AGENT_CA_FILE)", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// `SSL_CERT_FILE` names something that isn't read.
#[derive(Debug, thiserror::Error)]
#[error("{} (SSL_CERT_FILE): {reason}", path.display())]
pub struct SystemCertificatesError {
    path: PathBuf,
    reason: FileError,
}

impl AgentAuthorities {
    /// Reads the certificates of a PEM file.
    ///
    /// # Errors
    /// If it has none, or one that can't be read.
    pub fn load(path: &Path) -> Result<Self, AuthoritiesError> {
        let text = local_files::read(path, SETTINGS_BYTES)
            .map_err(|source| AuthoritiesError::Unreadable { path: path.to_owned(), source })?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|source| AuthoritiesError::Malformed { path: path.to_owned(), source })?;
        let (usable, _) = RootCertStore::empty().add_parsable_certificates(found.iter().cloned());
        if usable == 0 {
            return Err(AuthoritiesError::Empty { path: path.to_owned() });
        }
        Ok(Self(found))
    }
}

/// Opens TLS on connections to agents.
pub(crate) struct Tls {
    authorities: AgentAuthorities,
    connector: OnceCell<TlsConnector>,
}

/// Why there is no TLS connection. The texts become details of activity rows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("its certificate can't be verified: {0}")]
    Certificate(String),
    #[error("it refuses the TLS connection: {0:?}")]
    Refused(AlertDescription),
    #[error("it doesn't answer with TLS")]
    NoTls,
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the TLS handshake took too long")]
    TimedOut,
    #[error("TLS can't be set up")]
    Setup(#[source] rustls::Error),
}

impl Tls {
    pub(crate) fn new(authorities: AgentAuthorities) -> Self {
        Self { authorities, connector: OnceCell::new() }
    }

    /// Makes a TLS connection of an open one, to the host that the URL names.
    pub(crate) async fn handshake(
        &self,
        url: &Url,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let connector = self.connector.get_or_try_init(|| connector(self.authorities.0.clone())).await?;
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => String::new(),
        };
        let host = host
            .try_into()
            .map_err(|_| TlsError::Certificate("the URL's host can't be in a certificate".to_owned()))?;
        let opened = timeout(HANDSHAKE_TIMEOUT, connector.connect(host, socket)).await;
        opened.map_err(|_| TlsError::TimedOut)?.map_err(classify)
    }
}

fn classify(error: io::Error) -> TlsError {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(reason)) => TlsError::Certificate(reason.to_string()),
        Some(rustls::Error::NoCertificatesPresented) => TlsError::Certificate("it presents none".to_owned()),
        Some(rustls::Error::AlertReceived(alert)) => TlsError::Refused(*alert),
        Some(rustls::Error::InvalidMessage(_)) => TlsError::NoTls,
        _ => TlsError::Handshake(error),
    }
}

impl TlsError {
    /// What to do about it, where that is known.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Certificate(_) => Some(
                "the agent's certificate has to name its host and be signed by an authority that the server \
                 trusts: name a private authority's certificate in AGENT_CA_FILE",
            ),
            Self::Refused(AlertDescription::CertificateRequired) => Some(
                "the agent wants a client certificate, and the server has none: let the agent accept connections \
                 without one",
            ),
            Self::Refused(_) => Some("the agent's log may say why: the server offers TLS 1.2 and 1.3"),
            Self::NoTls => Some("if the agent has no TLS, register its URL with http://"),
            Self::Handshake(_) | Self::TimedOut | Self::Setup(_) => None,
        }
    }
}

/// Certificates of authorities that the system trusts: those in the file that `SSL_CERT_FILE` names, else those at the
/// usual places.
///
/// # Errors
/// If `SSL_CERT_FILE` names something that isn't read, such as a FIFO.
pub fn system_certificates() -> Result<CertificateResult, SystemCertificatesError> {
    if let Some(path) = std::env::var_os(SYSTEM_FILE).map(PathBuf::from)
        && let Err(reason @ (FileError::Special(_) | FileError::TooLarge { .. })) =
            local_files::check(&path, SETTINGS_BYTES)
    {
        return Err(SystemCertificatesError { path, reason });
    }
    Ok(rustls_native_certs::load_native_certs())
}

async fn connector(own: Vec<CertificateDer<'static>>) -> Result<TlsConnector, TlsError> {
    let mut roots = RootCertStore::empty();
    // Files are read.
    match tokio::task::spawn_blocking(system_certificates).await {
        Ok(Ok(system)) => {
            for error in &system.errors {
                tracing::warn!(%error, "certificates of the system can't be read");
            }
            roots.add_parsable_certificates(system.certs);
        }
        Ok(Err(error)) => tracing::warn!(%error, "certificates of the system can't be read"),
        Err(_) => {}
    }
    roots.add_parsable_certificates(own);
    if roots.is_empty() {
        tracing::warn!(
            "no certificate of an authority was found: agents can't be called by https (see AGENT_CA_FILE)"
        );
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn load(text: &str) -> Result<AgentAuthorities, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        AgentAuthorities::load(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn files_without_a_usable_certificate_are_refused() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"] {
            assert!(load(text).unwrap_err().contains("has no certificate of an authority"), "{text}");
        }
        let cut = load("-----BEGIN CERTIFICATE-----\naGVsbG8=\n").unwrap_err();
        assert!(cut.starts_with("cannot read the certificates in "), "{cut}");
        AgentAuthorities::load(Path::new("/nowhere/ca.pem")).unwrap_err();
        let endless = AgentAuthorities::load(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(endless.to_string(), "cannot read /dev/zero (see AGENT_CA_FILE)");
    }
}
