//! Which certificates of servers are trusted: those that the system trusts, and those of an authority of the user.

use std::path::Path;
use std::sync::Arc;

use local_files::SETTINGS_BYTES;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::CliError;

/// Settings for connections. The system's certificates are only read where they are needed (`secure`).
pub(super) fn config(secure: bool, authority: Option<&Path>) -> Result<ClientConfig, CliError> {
    let mut roots = RootCertStore::empty();
    if secure {
        // Some of the system's may be unreadable. Without a single one, the handshake says so.
        let system = net::system_certificates().map_err(|error| CliError::refused(error.to_string()))?;
        roots.add_parsable_certificates(system.certs);
    }
    if let Some(file) = authority {
        add(&mut roots, file)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config
        .with_safe_default_protocol_versions()
        .map_err(|error| CliError::refused(format!("TLS can't be used: {error}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), CliError> {
    let shown = file.display();
    let text = local_files::read(file, SETTINGS_BYTES)
        .map_err(|source| CliError::unread(Path::new(&format!("{shown} (--ca-file)")), source))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
    let added = certificates.is_some_and(|all| all.into_iter().all(|one| roots.add(one).is_ok()));
    if added {
        return Ok(());
    }
    Err(CliError::refused(format!("{shown} (--ca-file) has no certificates in PEM format")))
}

/// What TLS objected to, if that is why a request failed.
pub(super) fn failure<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<rustls::Error>() {
            return Some(failure);
        }
        // An I/O error has what it wraps as its inner error, and the source of that as its source.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
