//! Who may do what at the API server: an authority of the run's own, and a client certificate for each component.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use serde_json::json;

use crate::plan;

/// The files of one run's authority.
pub struct Credentials {
    directory: PathBuf,
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
}

impl Credentials {
    /// Makes the authority and the key pair that signs service account tokens.
    pub fn create(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).context("make the directory of certificates")?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_pem = params.self_signed(&key)?.pem();
        fs::write(directory.join("ca.crt"), &authority_pem)?;
        let tokens = KeyPair::generate()?;
        fs::write(
            directory.join("service-accounts.key"),
            tokens.serialize_pem(),
        )?;
        fs::write(
            directory.join("service-accounts.pub"),
            tokens.public_key_pem(),
        )?;
        Ok(Self {
            directory: directory.to_owned(),
            authority: Issuer::new(params, key),
            authority_pem,
        })
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Writes NAME.crt and NAME.key for a server that is reached at these names and addresses.
    pub fn server(&self, name: &str, names: &[&str], addresses: &[&str]) -> Result<()> {
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
        for address in addresses {
            params
                .subject_alt_names
                .push(SanType::IpAddress(address.parse::<IpAddr>()?));
        }
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.write(name, params).map(drop)
    }

    /// Writes NAME.crt, NAME.key and NAME.kubeconfig for this user and group.
    pub fn client(&self, name: &str, user: &str, group: Option<&str>) -> Result<()> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = self.write(name, params)?;
        let user = json!({"client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(key)});
        let text = serde_json::to_string_pretty(&kubeconfig(&self.authority_pem, &user))?;
        fs::write(self.directory.join(format!("{name}.kubeconfig")), text)
            .context("write a kubeconfig")
    }

    fn write(&self, name: &str, mut params: CertificateParams) -> Result<(String, String)> {
        params.is_ca = IsCa::ExplicitNoCa;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?.pem();
        let key = key.serialize_pem();
        fs::write(self.directory.join(format!("{name}.crt")), &certificate)?;
        fs::write(self.directory.join(format!("{name}.key")), &key)?;
        Ok((certificate, key))
    }
}

/// A kubeconfig (JSON is YAML, too) for the run's API server.
pub fn kubeconfig(authority_pem: &str, user: &serde_json::Value) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": plan::API_SERVER, "certificate-authority-data": STANDARD.encode(authority_pem)}}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
    })
}
