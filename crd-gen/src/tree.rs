//! Which files are generated.

use std::path::{Path, PathBuf};

use ferrolb_manifests::{Component, Installation};
use serde::Serialize;
use serde_json::{Value, json};

use crate::files::Tree;
use crate::{bundle, crds, samples, yaml};

/// Renders every generated file. `root` is the repository: the bundle's examples are the samples that people write by hand.
pub fn render(root: &Path) -> anyhow::Result<Tree> {
    let installation = Installation::default();
    let crds = crds::all()?;
    let mut tree = Tree::default();
    definitions(&mut tree, &crds)?;
    permissions(&mut tree, &installation)?;
    operator(&mut tree, &installation)?;
    webhook(&mut tree, &installation)?;
    speaker(&mut tree, &installation)?;
    everything(&mut tree, &installation)?;
    bundle::add(
        &mut tree,
        &installation,
        &crds,
        &samples::read(&root.join("config/samples"))?,
    )?;
    Ok(tree)
}

fn definitions(tree: &mut Tree, crds: &[crds::Crd]) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for crd in crds {
        files.push((
            format!("bases/metallb.io_{}.yaml", crd.plural),
            yaml::document(&crd.object)?,
        ));
    }
    folder(tree, "config/crd", files)
}

fn permissions(tree: &mut Tree, installation: &Installation) -> anyhow::Result<()> {
    let mut files = Vec::new();
    for component in Component::ALL {
        let mut objects = vec![json(&installation.service_account(component))?];
        if let Some((role, binding)) = installation.cluster_role(component) {
            objects.extend([json(&role)?, json(&binding)?]);
        }
        if let Some((role, binding)) = installation.role(component) {
            objects.extend([json(&role)?, json(&binding)?]);
        }
        files.push((
            format!("{}.yaml", component.label()),
            yaml::documents(&objects)?,
        ));
    }
    folder(tree, "config/rbac", files)
}

fn operator(tree: &mut Tree, installation: &Installation) -> anyhow::Result<()> {
    let files = vec![(
        "deployment.yaml".to_owned(),
        yaml::document(&installation.operator())?,
    )];
    folder(tree, "config/operator", files)
}

fn webhook(tree: &mut Tree, installation: &Installation) -> anyhow::Result<()> {
    let files = vec![
        (
            "deployment.yaml".to_owned(),
            yaml::document(&installation.webhook())?,
        ),
        (
            "disruption-budget.yaml".to_owned(),
            yaml::document(&installation.webhook_disruption_budget())?,
        ),
        (
            "registration.yaml".to_owned(),
            yaml::documents(&[
                json(&installation.webhook_configuration())?,
                json(&installation.mutating_webhook_configuration())?,
            ])?,
        ),
        (
            "service.yaml".to_owned(),
            yaml::documents(&[
                json(&installation.webhook_service())?,
                json(&installation.conversion_service())?,
            ])?,
        ),
    ];
    folder(tree, "config/webhook", files)
}

fn speaker(tree: &mut Tree, installation: &Installation) -> anyhow::Result<()> {
    let files = vec![(
        "daemonset.yaml".to_owned(),
        yaml::document(&installation.speaker())?,
    )];
    folder(tree, "config/speaker", files)
}

/// The folder that people apply. The namespace stands here once more, so that whoever builds on this folder can change it.
fn everything(tree: &mut Tree, installation: &Installation) -> anyhow::Result<()> {
    let path = Path::new("config/default");
    tree.files.insert(
        path.join("namespace.yaml"),
        yaml::document(&installation.namespace())?,
    );
    let resources = [
        "namespace.yaml",
        "../crd",
        "../rbac",
        "../operator",
        "../webhook",
        "../speaker",
    ];
    kustomization(
        tree,
        path,
        json!({ "namespace": installation.namespace, "resources": resources }),
    )
}

/// Adds a folder of which every file is a resource.
fn folder(tree: &mut Tree, path: &str, files: Vec<(String, String)>) -> anyhow::Result<()> {
    let path = Path::new(path);
    let resources: Vec<&String> = files.iter().map(|(name, _)| name).collect();
    kustomization(tree, path, json!({ "resources": resources }))?;
    tree.files.extend(
        files
            .into_iter()
            .map(|(name, contents)| (path.join(name), contents)),
    );
    Ok(())
}

/// Makes a folder a kustomize tree in which everything is generated.
fn kustomization(tree: &mut Tree, folder: &Path, mut fields: Value) -> anyhow::Result<()> {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert(
            "apiVersion".to_owned(),
            "kustomize.config.k8s.io/v1beta1".into(),
        );
        fields.insert("kind".to_owned(), "Kustomization".into());
    }
    tree.files
        .insert(folder.join("kustomization.yaml"), yaml::document(&fields)?);
    tree.folders.push(PathBuf::from(folder));
    Ok(())
}

fn json(object: &impl Serialize) -> serde_json::Result<Value> {
    serde_json::to_value(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered() -> Tree {
        render(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
    }

    #[test]
    fn every_generated_file_tells_how_it_is_made() {
        for (path, contents) in rendered().files {
            assert!(
                contents.starts_with("# Generated by `cargo run -p crd-gen`."),
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn every_generated_file_reads_back_as_yaml() {
        for (path, contents) in rendered().files {
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                let documents: Vec<Value> = serde_saphyr::from_multiple(&contents).unwrap();
                assert!(!documents.is_empty(), "{}", path.display());
            }
        }
    }

    #[test]
    fn whatever_a_kustomization_names_exists() {
        let tree = rendered();
        for (path, contents) in &tree.files {
            if !path.ends_with("kustomization.yaml") {
                continue;
            }
            let fields: Value = serde_saphyr::from_str(contents).unwrap();
            for resource in fields["resources"].as_array().unwrap() {
                let resource = resource.as_str().unwrap();
                let target = match resource.strip_prefix("../") {
                    Some(sibling) => Path::new("config").join(sibling).join("kustomization.yaml"),
                    None => path.parent().unwrap().join(resource),
                };
                assert!(
                    tree.files.contains_key(&target),
                    "{} names {resource}",
                    path.display()
                );
            }
        }
    }
}
