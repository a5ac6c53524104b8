//! The key that speakers of one cluster know each other by (reference 3.10).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ferrolb_cluster::{Outcome, Writer};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::RngCore;
use tracing::{info, warn};

/// Makes the Secret if there is none. One that exists is left alone, whoever made it: an exchange of the key would
/// part the speakers that have read the old one from those that have read the new.
///
/// True once it exists; the caller tries again otherwise.
pub async fn ensure(writer: &Writer, namespace: &str, name: &str) -> bool {
    match writer.create(namespace, &secret(name, rand::rng())).await {
        Outcome::Done(_) => {
            info!(secret = name, "made the key of the speakers' membership");
            true
        }
        Outcome::Conflict => true,
        Outcome::Gone => {
            warn!(
                secret = name,
                namespace, "cannot make the membership key: the namespace does not exist"
            );
            false
        }
        Outcome::Invalid(reason) | Outcome::Unavailable(reason) => {
            warn!(secret = name, %reason, "cannot make the membership key; trying again");
            false
        }
    }
}

fn secret(name: &str, mut random: impl RngCore) -> Secret {
    let mut key = [0; 16];
    random.fill_bytes(&mut key);
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            "secretkey".to_owned(),
            ByteString(STANDARD_NO_PAD.encode(key).into_bytes()),
        )])),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_22_characters_of_base64() {
        let made = secret("memberlist", rand::rng()).data.unwrap();
        assert_eq!(made["secretkey"].0.len(), 22);
        assert_ne!(
            made["secretkey"],
            secret("memberlist", rand::rng()).data.unwrap()["secretkey"]
        );
    }
}
