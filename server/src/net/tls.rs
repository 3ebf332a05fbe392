//! TLS: who the server is, and, if it asks, who its clients are.

use crate::settings::Config;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use skep_runtime_core::sync::Mutex;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
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

/// The certificates that are shown and asked for now: their files may be written anew while the server runs.
pub(crate) struct Certificates {
    files: Files,
    now: Mutex<Read>,
}

#[derive(Clone)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
    clients: Option<PathBuf>,
}

struct Read {
    acceptor: TlsAcceptor,
    /// Of the files as they were read.
    fingerprint: Option<u64>,
}

impl Certificates {
    /// What the settings ask for; `None` if connections are to be plain.
    pub(crate) fn read(config: &Config) -> Result<Option<Self>, TlsError> {
        let (Some(chain), Some(key)) = (config.tls_cert.clone(), config.tls_key.clone()) else {
            return Ok(None);
        };
        let files = Files { chain, key, clients: config.tls_clients.clone() };
        let fingerprint = files.fingerprint();
        let acceptor = acceptor(&files)?;
        Ok(Some(Self { files, now: Mutex::new(Read { acceptor, fingerprint }) }))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.now.lock().acceptor.clone()
    }

    /// Reads the files again if they are others, for the connections that come from now on; true if they were. What cannot be
    /// used leaves all as it is.
    pub(crate) fn refresh(&self) -> Result<bool, TlsError> {
        let fingerprint = self.files.fingerprint();
        if self.now.lock().fingerprint == fingerprint {
            return Ok(false);
        }
        // Told once for each state of the files, right or wrong.
        let made = acceptor(&self.files);
        let mut now = self.now.lock();
        now.fingerprint = fingerprint;
        now.acceptor = made?;
        Ok(true)
    }
}

impl Files {
    /// A number for what is in them; `None` if one cannot be read.
    fn fingerprint(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        for file in [Some(&self.chain), Some(&self.key), self.clients.as_ref()].into_iter().flatten() {
            fs::read(file).ok()?.hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

fn acceptor(files: &Files) -> Result<TlsAcceptor, TlsError> {
    let Files { chain, key, clients } = files;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unfit = |file: &Path| {
        let file = file.to_owned();
        move |source| TlsError::Unfit { file, source }
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unfit(chain))?;
    let builder = match clients {
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
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem { file: file.to_owned(), source };
    let all = CertificateDer::pem_file_iter(file).map_err(wrong)?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(wrong)?;
    if all.is_empty() { Err(TlsError::NoCertificate { file: file.to_owned() }) } else { Ok(all) }
}
