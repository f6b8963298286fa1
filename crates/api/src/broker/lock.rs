//! Who may come in, and the certificate that is shown: changed while the door stays open.
//!
//! Invariant: whoever may not come in any more is refused from the next request on, also on a connection that is open; no
//! password is kept or compared as it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use ostler_model::estate::Estate;
use ostler_model::estate::osb::SecretSource;
use ostler_model::estate::provide::{Provide, ProvideTls};
use ostler_providers::source;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

/// The lock of a door.
#[derive(Default)]
pub(super) struct Lock(RwLock<State>);

#[derive(Clone, Default)]
struct State {
    /// What it was made from.
    provide: Option<Box<Provide>>,
    /// Digests of the buyers' passwords, by user name.
    buyers: BTreeMap<String, [u8; 32]>,
    tls: Option<TlsAcceptor>,
    /// When the files of the certificate were last written.
    written: Option<(SystemTime, SystemTime)>,
}

impl Lock {
    /// Lets in whom the estate names. What stands in files is read again each time; what programs print and what stands
    /// in the environment only if the estate says something else.
    ///
    /// # Errors
    /// What is missing or wrong. Then it stays as it was, but for those that the estate does not name any more.
    pub(super) async fn change(&self, estate: &Estate) -> Result<(), String> {
        let provide = estate.provide.as_deref().ok_or("nothing is sold")?;
        let mut state = self.read();
        let is_same = state.provide.as_deref() == Some(provide);
        state.buyers.retain(|name, _| provide.buyers.contains_key(name));
        self.write(state.clone());
        for (name, password) in &provide.buyers {
            let is_file = matches!(password, SecretSource::File(_));
            if is_same && !is_file && state.buyers.contains_key(name) {
                continue;
            }
            let found = source::find(password, &estate.folder).await;
            let found = found.map_err(|why| format!("there is no password of the buyer `{name}`: {why}"))?;
            state.buyers.insert(name.clone(), digest(found.expose()));
        }
        let written = provide.tls.as_ref().and_then(written);
        if !is_same || written != state.written || (state.tls.is_some() != provide.tls.is_some()) {
            state.tls = provide.tls.as_ref().map(acceptor).transpose()?;
            state.written = written;
        }
        state.provide = Some(Box::new(provide.clone()));
        self.write(state);
        Ok(())
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.write(State::default());
    }

    /// Whether this is the buyer's password. Digests are compared: how long that takes says nothing of the password.
    pub(super) fn opens(&self, buyer: &str, password: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).buyers.get(buyer) == Some(&digest(password))
    }

    /// What speaks TLS, if that is spoken.
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).tls.clone()
    }

    /// How a door at this address is reached.
    pub(super) fn url(&self, listen: SocketAddr) -> String {
        let scheme = if self.tls().is_some() { "https" } else { "http" };
        if listen.ip().is_unspecified() {
            return format!("{scheme}://THIS-MACHINE:{}", listen.port());
        }
        format!("{scheme}://{listen}")
    }

    fn read(&self) -> State {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, state: State) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

fn digest(password: &str) -> [u8; 32] {
    Sha256::digest(password).into()
}

fn written(tls: &ProvideTls) -> Option<(SystemTime, SystemTime)> {
    let at = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    at(&tls.certificate).zip(at(&tls.key))
}

fn acceptor(tls: &ProvideTls) -> Result<TlsAcceptor, String> {
    let wrong = |path: &Path, why: String| format!("cannot use {}: {why}; correct `[provide] tls`", path.display());
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(&tls.certificate, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| wrong(&tls.key, error.to_string()))?;
    let provider = rustls::crypto::CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(|error| wrong(&tls.certificate, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
