//! Which certificate authorities a PEM text holds.

use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

/// One authority. Two are equal when their certificates are, however the text around them was broken into lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The certificate.
    der: Vec<u8>,
    /// When it ends, in seconds since the epoch.
    not_after: i64,
}

impl Authority {
    /// Whether it has not ended. One whose time has not come is kept: the clock may be ours.
    #[must_use]
    pub fn is_alive(&self, now: i64) -> bool {
        now < self.not_after
    }

    fn to_pem(&self) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = text.as_str();
        while let Some((line, more)) = rest.split_at_checked(64) {
            pem.push_str(line);
            pem.push('\n');
            rest = more;
        }
        if !rest.is_empty() {
            pem.push_str(rest);
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }
}

/// The authorities of a text, each once, in its order. What is no certificate is left out: manifests carry placeholders.
#[must_use]
pub fn authorities(text: &[u8]) -> Vec<Authority> {
    let mut found: Vec<Authority> = Vec::new();
    for pem in Pem::iter_from_buffer(text).map_while(Result::ok) {
        if pem.label != "CERTIFICATE" {
            continue;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(&pem.contents) else {
            continue;
        };
        let authority = Authority {
            not_after: certificate.validity().not_after.timestamp(),
            der: pem.contents,
        };
        if !found.contains(&authority) {
            found.push(authority);
        }
    }
    found
}

/// Whether a server with this chain is trusted by whoever trusts these authorities, by what the certificates say of each other.
/// No signature is checked: it is asked to help people, not to let anybody in.
#[must_use]
pub fn trusts(authorities: &[Authority], chain: &[u8]) -> bool {
    let chain = self::authorities(chain);
    chain.iter().any(|link| {
        authorities
            .iter()
            .any(|authority| authority == link || issued(&authority.der, &link.der))
    })
}

fn issued(authority: &[u8], certificate: &[u8]) -> bool {
    let (Ok((_, authority)), Ok((_, certificate))) = (
        X509Certificate::from_der(authority),
        X509Certificate::from_der(certificate),
    ) else {
        return false;
    };
    if authority.subject().as_raw() != certificate.issuer().as_raw() {
        return false;
    }
    // Authorities of the same name differ in their keys. Where one of the two names no key, the name must do.
    let issuer =
        certificate
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(issuer) => issuer.key_identifier.as_ref(),
                _ => None,
            });
    let own =
        authority
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(own) => Some(own),
                _ => None,
            });
    match (issuer, own) {
        (Some(issuer), Some(own)) => issuer == own,
        _ => true,
    }
}

/// The text that holds these.
#[must_use]
pub fn text(authorities: &[Authority]) -> String {
    authorities.iter().map(Authority::to_pem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Bundle;

    #[test]
    fn authorities_are_read_once_each_and_what_is_none_is_left_out() {
        let names = ["a.svc".to_owned()];
        let (one, two) = (
            Bundle::issue(&names, 1_790_000_000).unwrap().ca_crt,
            Bundle::issue(&names, 1_790_000_000).unwrap().ca_crt,
        );
        let read = authorities(format!("{one}\nchatter\n{two}{one}").as_bytes());
        assert_eq!(read.len(), 2);
        assert_eq!(
            text(&read),
            format!("{one}{two}"),
            "as OpenSSL and rcgen write it"
        );
        for placeholder in [&b""[..], b"\n", b"nonsense"] {
            assert!(authorities(placeholder).is_empty());
        }
    }

    #[test]
    fn a_chain_is_trusted_by_the_authority_that_issued_a_certificate_of_it() {
        let names = ["a.svc".to_owned()];
        let (ours, theirs) = (
            Bundle::issue(&names, 1_790_000_000).unwrap(),
            Bundle::issue(&names, 1_790_000_000).unwrap(),
        );
        let trusted = authorities(ours.ca_crt.as_bytes());
        assert!(trusts(&trusted, ours.tls_crt.as_bytes()));
        // Of the same name, and of another key.
        assert!(!trusts(&trusted, theirs.tls_crt.as_bytes()));
        // A certificate that is its own authority.
        assert!(trusts(&trusted, ours.ca_crt.as_bytes()));
        assert!(!trusts(&[], ours.tls_crt.as_bytes()));
        assert!(!trusts(&trusted, b"nonsense"));
    }
}
