//! The webhook's certificate chain: what is in the Secret, whether it is due, and a new one.

use std::collections::BTreeMap;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long a certificate authority is valid (reference 5.7).
const CA_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// How long a server certificate is valid.
const SERVER_LIFE: Duration = Duration::from_hours(365 * 24);
/// How long before its end either is renewed (reference 5.7).
const RENEWAL_LEAD: Duration = Duration::from_hours(90 * 24);
/// How far a certificate's start lies in the past, so that clocks that are behind accept it.
const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// The four entries of the Secret (reference 5.7).
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// `ca.crt`: the authorities that clients trust, the newest first. Two while one replaces the other.
    pub ca_crt: String,
    /// `ca.key`: the key of the newest.
    pub ca_key: String,
    /// `tls.crt`: the server's certificate.
    pub tls_crt: String,
    /// `tls.key`: its key.
    pub tls_key: String,
}

/// Why a bundle is replaced. It is logged and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// The Secret holds no bundle, or one that cannot be read.
    Unusable(String),
    /// The server certificate ends soon.
    ServerExpires,
    /// The authority ends soon.
    AuthorityExpires,
    /// It was made for another name.
    OtherName,
}

/// Why no bundle could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The certificate library refused.
    #[error("make the webhook certificate")]
    Generate(#[from] rcgen::Error),
}

impl Bundle {
    /// Reads the Secret's entries, given as name to text.
    #[must_use]
    pub fn read(entries: &BTreeMap<String, Vec<u8>>) -> Option<Bundle> {
        let text = |name: &str| {
            String::from_utf8(entries.get(name)?.clone())
                .ok()
                .filter(|text| !text.is_empty())
        };
        Some(Bundle {
            ca_crt: text("ca.crt")?,
            ca_key: text("ca.key")?,
            tls_crt: text("tls.crt")?,
            tls_key: text("tls.key")?,
        })
    }

    /// The Secret's entries.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        [
            ("ca.crt", &self.ca_crt),
            ("ca.key", &self.ca_key),
            ("tls.crt", &self.tls_crt),
            ("tls.key", &self.tls_key),
        ]
        .map(|(name, text)| (name.to_owned(), text.clone().into_bytes()))
        .into()
    }

    /// Whether the bundle must be replaced, and why. `now` is seconds since the epoch.
    #[must_use]
    pub fn due(&self, dns_name: &str, now: i64) -> Option<Due> {
        let (ca, server) = match (expiry(&self.ca_crt), expiry(&self.tls_crt)) {
            (Ok(ca), Ok(server)) => (ca, server),
            (Err(reason), _) | (_, Err(reason)) => return Some(Due::Unusable(reason)),
        };
        if KeyPair::from_pem(&self.ca_key).is_err() || KeyPair::from_pem(&self.tls_key).is_err() {
            return Some(Due::Unusable("a private key cannot be read".to_owned()));
        }
        let soon = now + RENEWAL_LEAD.as_secs() as i64;
        if ca < soon {
            Some(Due::AuthorityExpires)
        } else if server < soon {
            Some(Due::ServerExpires)
        } else if !names(&self.tls_crt).iter().any(|name| name == dns_name) {
            Some(Due::OtherName)
        } else {
            None
        }
    }

    /// A bundle from nothing. `now` is seconds since the epoch.
    ///
    /// # Errors
    /// When the certificate library refuses, for want of randomness for example.
    pub fn issue(dns_name: &str, now: i64) -> Result<Bundle, IssueError> {
        let key = KeyPair::generate()?;
        let params = authority(now);
        let certificate = params.self_signed(&key)?;
        let (tls_crt, tls_key) = serve(dns_name, &Issuer::from_params(&params, &key), now)?;
        Ok(Bundle {
            ca_crt: certificate.pem(),
            ca_key: key.serialize_pem(),
            tls_crt,
            tls_key,
        })
    }

    /// The bundle that follows this one.
    ///
    /// A server certificate is renewed under the same authority. A new authority is published together with the old one,
    /// so that a client which has only read the old one goes on trusting until it reads the new.
    ///
    /// # Errors
    /// As [`Bundle::issue`].
    pub fn renew(&self, due: &Due, dns_name: &str, now: i64) -> Result<Bundle, IssueError> {
        match due {
            Due::Unusable(_) => Self::issue(dns_name, now),
            Due::AuthorityExpires => {
                let mut next = Self::issue(dns_name, now)?;
                next.ca_crt.push_str(first_pem(&self.ca_crt));
                Ok(next)
            }
            Due::ServerExpires | Due::OtherName => {
                let key = KeyPair::from_pem(&self.ca_key)?;
                let issuer = Issuer::from_ca_cert_pem(first_pem(&self.ca_crt), key)?;
                let (tls_crt, tls_key) = serve(dns_name, &issuer, now)?;
                Ok(Bundle {
                    tls_crt,
                    tls_key,
                    ..self.clone()
                })
            }
        }
    }
}

fn authority(now: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "ferrolb webhook authority");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "ferrolb");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = life(now, CA_LIFE);
    params
}

fn serve(
    dns_name: &str,
    issuer: &Issuer<'_, impl rcgen::SigningKey>,
    now: i64,
) -> Result<(String, String), IssueError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![dns_name.to_owned()])?;
    params
        .distinguished_name
        .push(DnType::CommonName, "ferrolb webhook");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = life(now, SERVER_LIFE);
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn life(now: i64, length: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    (now - CLOCK_SKEW, now + length)
}

/// When the first certificate of a PEM text ends, in seconds since the epoch.
fn expiry(pem: &str) -> Result<i64, String> {
    with_first(pem, |certificate| {
        certificate.validity().not_after.timestamp()
    })
}

/// The DNS names of the first certificate of a PEM text.
fn names(pem: &str) -> Vec<String> {
    with_first(pem, |certificate| {
        let alternative = certificate.subject_alternative_name().ok().flatten();
        alternative
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect()
    })
    .unwrap_or_default()
}

fn with_first<T>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Result<T, String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|_| "a certificate is not PEM".to_owned())?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents)
        .map_err(|_| "a certificate is not X.509".to_owned())?;
    Ok(read(&certificate))
}

/// The first certificate of a PEM text that may hold several.
fn first_pem(pem: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    pem.find(END)
        .map_or(pem, |at| pem.get(..at + END.len()).unwrap_or(pem))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "metallb-webhook-service.metallb-system.svc";
    const DAY: i64 = 24 * 3600;
    const NOW: i64 = 1_790_000_000;

    #[test]
    fn a_fresh_bundle_is_not_due_and_survives_the_secret() {
        let bundle = Bundle::issue(NAME, NOW).unwrap();
        assert_eq!(bundle.due(NAME, NOW), None);
        assert!(Bundle::read(&bundle.entries()).unwrap() == bundle);
        assert!(
            Bundle::read(&BTreeMap::new()).is_none(),
            "MetalLB's manifests create the Secret empty"
        );
    }

    #[test]
    fn a_server_certificate_is_renewed_ahead_under_the_same_authority() {
        let bundle = Bundle::issue(NAME, NOW).unwrap();
        assert_eq!(bundle.due(NAME, NOW + 274 * DAY), None);
        let due = bundle.due(NAME, NOW + 276 * DAY).unwrap();
        assert_eq!(due, Due::ServerExpires);
        let next = bundle.renew(&due, NAME, NOW + 276 * DAY).unwrap();
        assert_eq!(next.ca_crt, bundle.ca_crt);
        assert_ne!(next.tls_crt, bundle.tls_crt);
        assert_eq!(next.due(NAME, NOW + 276 * DAY), None);
    }

    #[test]
    fn a_new_authority_is_published_beside_the_old_one() {
        let bundle = Bundle::issue(NAME, NOW).unwrap();
        let late = NOW + (10 * 365 - 80) * DAY;
        let due = bundle.due(NAME, late).unwrap();
        assert_eq!(due, Due::AuthorityExpires);
        let next = bundle.renew(&due, NAME, late).unwrap();
        assert!(next.ca_crt.ends_with(&bundle.ca_crt));
        assert_eq!(next.ca_crt.matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!(next.due(NAME, late), None);
    }

    #[test]
    fn another_name_or_garbage_makes_it_due() {
        let bundle = Bundle::issue(NAME, NOW).unwrap();
        assert_eq!(bundle.due("other.svc", NOW), Some(Due::OtherName));
        let garbage = Bundle {
            tls_crt: "garbage".to_owned(),
            ..bundle
        };
        assert!(matches!(garbage.due(NAME, NOW), Some(Due::Unusable(_))));
    }
}
