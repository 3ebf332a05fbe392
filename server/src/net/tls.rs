//! TLS: who the server is, and, if it asks, who its clients are.

use crate::settings::Config;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The reason why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{}: cannot be read as PEM", .file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// A file has no certificate in it.
    #[error("{}: there is no certificate in it", .file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// A certificate or key cannot be used.
    #[error("{}: cannot be used", .file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// Clients cannot be asked for certificates.
    #[error("{}: clients cannot be asked for certificates", .file.display())]
    Clients {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: VerifierBuilderError,
    },
}

/// What the settings ask for; `None` if connections are to be plain.
pub(crate) fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, TlsError> {
    let (Some(chain), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unfit = |file: &Path| {
        let file = file.to_owned();
        move |source| TlsError::Unfit { file, source }
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unfit(chain))?;
    let builder = match &config.tls_clients {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(unfit(file))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let verifier = verifier.map_err(|source| TlsError::Clients { file: file.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Pem { file: key.clone(), source })?;
    let mut server = builder.with_single_cert(certificates(chain)?, secret).map_err(unfit(key))?;
    // Both ports speak both; clients of gRPC ask for the first.
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem { file: file.to_owned(), source };
    let all = CertificateDer::pem_file_iter(file).map_err(wrong)?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(wrong)?;
    if all.is_empty() { Err(TlsError::NoCertificate { file: file.to_owned() }) } else { Ok(all) }
}
