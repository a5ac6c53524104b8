//! TLS for servers: aws-lc-rs, TLS 1.2 and newer, and a certificate that can change while connections stand.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

/// Why a certificate is not used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// `tls.crt` is no PEM certificate chain.
    #[error("reading the certificate chain (tls.crt)")]
    Chain(#[source] pem::Error),
    /// `tls.crt` holds no certificate.
    #[error("the certificate chain (tls.crt) is empty")]
    Empty,
    /// `tls.key` is no PEM private key.
    #[error("reading the private key (tls.key)")]
    Key(#[source] pem::Error),
    /// The two do not belong together, or the algorithm is not supported.
    #[error("using the certificate with its key")]
    Pair(#[source] rustls::Error),
}

/// The certificate that new connections get. Cheap to clone; all clones share one certificate.
#[derive(Debug, Clone, Default)]
pub struct SwappableCertificate {
    current: Arc<RwLock<Option<Arc<CertifiedKey>>>>,
}

impl SwappableCertificate {
    /// Uses another certificate from the next handshake on. On an error the current one stays.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), CertificateError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(CertificateError::Chain)?;
        if chain.is_empty() {
            return Err(CertificateError::Empty);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::Key)?;
        let pair = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(CertificateError::Pair)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(pair));
        Ok(())
    }

    /// Whether there is a certificate: without one every handshake fails.
    pub fn is_present(&self) -> bool {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }
}

impl ResolvesServerCert for SwappableCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A server's TLS settings for HTTP/1.1.
pub fn server_config(certificate: SwappableCertificate) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    fn made() -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["ferrolb.test".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_is_used_only_with_its_own_key_and_a_bad_one_leaves_the_good_one_in_place() {
        let certificate = SwappableCertificate::default();
        assert!(!certificate.is_present());
        let ((chain, key), (_, other_key)) = (made(), made());
        assert!(matches!(
            certificate.replace(b"", key.as_bytes()),
            Err(CertificateError::Empty)
        ));
        assert!(matches!(
            certificate.replace(chain.as_bytes(), b"no key"),
            Err(CertificateError::Key(_))
        ));
        let mismatch = certificate.replace(chain.as_bytes(), other_key.as_bytes());
        assert!(
            matches!(mismatch, Err(CertificateError::Pair(_))),
            "{mismatch:?}"
        );
        assert!(!certificate.is_present());
        certificate
            .replace(chain.as_bytes(), key.as_bytes())
            .unwrap();
        assert!(
            certificate
                .replace(chain.as_bytes(), other_key.as_bytes())
                .is_err()
        );
        assert!(certificate.is_present());
    }
}
