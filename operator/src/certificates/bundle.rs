//! The webhook's certificate chain: what is in the Secret, whether it is due, and a new one.

use std::collections::BTreeMap;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

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
    /// `ca.crt`: the authority that signed the server's certificate. Which others are trusted beside it while one replaces
    /// another is not remembered here but published, see `decide.rs`.
    pub ca_crt: String,
    /// `ca.key`: its key.
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
    /// It lacks a name that the webhook is called by.
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

    /// Whether the bundle must be replaced, and why. `dns_names` are those that the webhook is called by; `now` is seconds
    /// since the epoch.
    #[must_use]
    pub fn due(&self, dns_names: &[String], now: i64) -> Option<Due> {
        let (ca, server) = match (expiry(&self.ca_crt), expiry(&self.tls_crt)) {
            (Ok(ca), Ok(server)) => (ca, server),
            (Err(reason), _) | (_, Err(reason)) => return Some(Due::Unusable(reason)),
        };
        if let Err(reason) = self.belongs_together() {
            return Some(Due::Unusable(reason));
        }
        let soon = now + RENEWAL_LEAD.as_secs() as i64;
        let names = names(&self.tls_crt);
        if ca < soon {
            Some(Due::AuthorityExpires)
        } else if server < soon {
            Some(Due::ServerExpires)
        } else if !dns_names.iter().all(|name| names.contains(name)) {
            Some(Due::OtherName)
        } else {
            None
        }
    }

    /// A Secret that was edited by hand, or restored in part, can hold four good entries with which no call succeeds.
    fn belongs_together(&self) -> Result<(), String> {
        for (certificate, key, what) in [
            (&self.ca_crt, &self.ca_key, "ca.key"),
            (&self.tls_crt, &self.tls_key, "tls.key"),
        ] {
            let key = KeyPair::from_pem(key).map_err(|_| format!("{what} cannot be read"))?;
            let public = with_first(certificate, |certificate| {
                certificate.public_key().raw.to_vec()
            })?;
            if public != key.subject_public_key_info() {
                return Err(format!("{what} belongs to another certificate"));
            }
        }
        let issued_by = with_first(&self.tls_crt, |server| {
            server
                .iter_extensions()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(issuer) => {
                        issuer.key_identifier.as_ref().map(|id| id.0.to_vec())
                    }
                    _ => None,
                })
        })?;
        let authority = with_first(&self.ca_crt, |authority| {
            authority
                .iter_extensions()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                    _ => None,
                })
        })?;
        // MetalLB's own certificates name no key; then there is nothing to compare.
        match (issued_by, authority) {
            (Some(issuer), Some(authority)) if issuer != authority => {
                Err("tls.crt is not of the authority in ca.crt".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// A bundle from nothing. `now` is seconds since the epoch.
    ///
    /// # Errors
    /// When the certificate library refuses, for want of randomness for example.
    pub fn issue(dns_names: &[String], now: i64) -> Result<Bundle, IssueError> {
        let key = KeyPair::generate()?;
        let params = authority(now);
        let certificate = params.self_signed(&key)?;
        let (tls_crt, tls_key) = serve(dns_names, &Issuer::from_params(&params, &key), now)?;
        Ok(Bundle {
            ca_crt: certificate.pem(),
            ca_key: key.serialize_pem(),
            tls_crt,
            tls_key,
        })
    }

    /// The same authority with a new server certificate.
    ///
    /// # Errors
    /// As [`Bundle::issue`].
    pub fn renew_server(&self, dns_names: &[String], now: i64) -> Result<Bundle, IssueError> {
        let key = KeyPair::from_pem(&self.ca_key)?;
        let issuer = Issuer::from_ca_cert_pem(&self.ca_crt, key)?;
        let (tls_crt, tls_key) = serve(dns_names, &issuer, now)?;
        Ok(Bundle {
            tls_crt,
            tls_key,
            ..self.clone()
        })
    }
}

/// What there is to say of the certificate in a `tls.crt` that others made, in seconds since the epoch; `None` if it cannot be
/// read.
#[must_use]
pub fn ends(tls_crt: &[u8]) -> Option<i64> {
    expiry(std::str::from_utf8(tls_crt).ok()?).ok()
}

/// Those of `dns_names` that the certificate in a `tls.crt` does not cover.
#[must_use]
pub fn uncovered(tls_crt: &[u8], dns_names: &[String]) -> Vec<String> {
    let covered = names(std::str::from_utf8(tls_crt).unwrap_or_default());
    let covers = |name: &String| {
        covered.iter().any(|pattern| {
            pattern == name
                || pattern.strip_prefix("*.").is_some_and(|rest| {
                    name.split_once('.')
                        .is_some_and(|(_, parent)| parent == rest)
                })
        })
    };
    dns_names
        .iter()
        .filter(|name| !covers(name))
        .cloned()
        .collect()
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
    dns_names: &[String],
    issuer: &Issuer<'_, impl rcgen::SigningKey>,
    now: i64,
) -> Result<(String, String), IssueError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(dns_names)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;
    const NOW: i64 = 1_790_000_000;

    fn names() -> Vec<String> {
        ["metallb-webhook-service", "ferrolb-webhook-conversion"]
            .map(|service| format!("{service}.metallb-system.svc"))
            .into()
    }

    fn bundle() -> Bundle {
        Bundle::issue(&names(), NOW).unwrap()
    }

    #[test]
    fn a_clock_that_is_an_hour_behind_accepts_what_was_made_now() {
        let bundle = bundle();
        for pem in [&bundle.ca_crt, &bundle.tls_crt] {
            let start = with_first(pem, |certificate| {
                certificate.validity().not_before.timestamp()
            });
            assert_eq!(start, Ok(NOW - 3600));
        }
    }

    #[test]
    fn a_fresh_bundle_is_not_due_and_survives_the_secret() {
        let bundle = bundle();
        assert_eq!(bundle.due(&names(), NOW), None);
        assert!(Bundle::read(&bundle.entries()).unwrap() == bundle);
        assert!(
            Bundle::read(&BTreeMap::new()).is_none(),
            "MetalLB's manifests create the Secret empty"
        );
    }

    #[test]
    fn a_server_certificate_is_renewed_ahead_under_the_same_authority() {
        let bundle = bundle();
        assert_eq!(bundle.due(&names(), NOW + 274 * DAY), None);
        assert_eq!(
            bundle.due(&names(), NOW + 276 * DAY),
            Some(Due::ServerExpires)
        );
        let next = bundle.renew_server(&names(), NOW + 276 * DAY).unwrap();
        assert_eq!(next.ca_crt, bundle.ca_crt);
        assert_ne!(next.tls_crt, bundle.tls_crt);
        assert_eq!(next.due(&names(), NOW + 276 * DAY), None);
    }

    #[test]
    fn an_authority_near_its_end_is_due_even_if_its_server_certificate_is_fresh() {
        let late = NOW + (10 * 365 - 80) * DAY;
        let bundle = bundle().renew_server(&names(), late).unwrap();
        assert_eq!(bundle.due(&names(), late), Some(Due::AuthorityExpires));
    }

    #[test]
    fn a_certificate_that_lacks_one_of_the_names_is_due() {
        let [first, second] = <[String; 2]>::try_from(names()).unwrap();
        for one in [first, second] {
            let bundle = Bundle::issue(std::slice::from_ref(&one), NOW).unwrap();
            assert_eq!(bundle.due(std::slice::from_ref(&one), NOW), None);
            assert_eq!(bundle.due(&names(), NOW), Some(Due::OtherName));
        }
    }

    #[test]
    fn entries_that_are_garbage_or_do_not_belong_together_are_unusable() {
        let (good, other) = (bundle(), bundle());
        let wrong: [fn(&mut Bundle, &Bundle); 5] = [
            |bundle, _| "garbage".clone_into(&mut bundle.tls_crt),
            |bundle, _| "garbage".clone_into(&mut bundle.ca_key),
            |bundle, other| other.tls_key.clone_into(&mut bundle.tls_key),
            |bundle, other| other.ca_key.clone_into(&mut bundle.ca_key),
            |bundle, other| {
                other.ca_crt.clone_into(&mut bundle.ca_crt);
                other.ca_key.clone_into(&mut bundle.ca_key);
            },
        ];
        for (index, spoil) in wrong.into_iter().enumerate() {
            let mut bundle = good.clone();
            spoil(&mut bundle, &other);
            let due = bundle.due(&names(), NOW);
            assert!(matches!(due, Some(Due::Unusable(_))), "{index}: {due:?}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let made = |name: &str| Bundle::issue(&[name.to_owned()], NOW).unwrap().tls_crt;
        let wild = made("*.metallb-system.svc");
        assert!(uncovered(wild.as_bytes(), &names()).is_empty());
        assert_eq!(
            uncovered(made("*.svc").as_bytes(), &names()),
            names(),
            "a wildcard is for one label"
        );
        assert_eq!(ends(wild.as_bytes()), Some(NOW + 365 * DAY));
        assert_eq!(ends(b"garbage"), None);
    }
}
