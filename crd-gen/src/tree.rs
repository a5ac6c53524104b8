//! Which files are generated.

use std::path::{Path, PathBuf};

use ferrolb_manifests::{Component, Installation, fail_closed};
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
    everything_but_the_webhook(&mut tree, &installation)?;
    closed(&mut tree)?;
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

/// The webhook's permissions go with the webhook, see [`webhook`].
fn permissions(tree: &mut Tree, installation: &Installation) -> anyhow::Result<()> {
    let files = [Component::Operator, Component::Speaker]
        .into_iter()
        .map(|component| {
            let name = format!("{}.yaml", component.label());
            Ok((name, granted(installation, component)?))
        })
        .collect::<anyhow::Result<_>>()?;
    folder(tree, "config/rbac", files)
}

fn granted(installation: &Installation, component: Component) -> anyhow::Result<String> {
    let mut objects = vec![json(&installation.service_account(component))?];
    if let Some((role, binding)) = installation.cluster_role(component) {
        objects.extend([json(&role)?, json(&binding)?]);
    }
    if let Some((role, binding)) = installation.role(component) {
        objects.extend([json(&role)?, json(&binding)?]);
    }
    Ok(yaml::documents(&objects)?)
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
            "rbac.yaml".to_owned(),
            granted(installation, Component::Webhook)?,
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
    let parts = [
        "../crd",
        "../rbac",
        "../operator",
        "../webhook",
        "../speaker",
    ];
    let path = Path::new("config/default");
    tree.files.insert(
        path.join("conversion.yaml"),
        yaml::document(&installation.conversion())?,
    );
    installable(tree, installation, path, &parts, &["conversion.yaml"])
}

/// The same for whoever wants no webhook: the rules hold without it.
fn everything_but_the_webhook(tree: &mut Tree, installation: &Installation) -> anyhow::Result<()> {
    let parts = ["../crd", "../rbac", "../operator", "../speaker"];
    let path = Path::new("config/default-no-webhook");
    installable(tree, installation, path, &parts, &[])
}

fn installable(
    tree: &mut Tree,
    installation: &Installation,
    path: &Path,
    parts: &[&str],
    patches: &[&str],
) -> anyhow::Result<()> {
    tree.files.insert(
        path.join("namespace.yaml"),
        yaml::document(&installation.namespace())?,
    );
    let mut resources = vec!["namespace.yaml"];
    resources.extend(parts);
    let patches: Vec<Value> = patches.iter().map(|path| json!({ "path": path })).collect();
    let fields = json!({
        "namespace": installation.namespace,
        "resources": resources,
        // What is null is not written.
        "patches": (!patches.is_empty()).then_some(patches),
    });
    kustomization(tree, path, fields)
}

/// A component for whoever wants changes to wait for a webhook that answers.
fn closed(tree: &mut Tree) -> anyhow::Result<()> {
    let path = Path::new("config/fail-closed");
    tree.files.insert(
        path.join("registration.yaml"),
        yaml::document(&fail_closed())?,
    );
    kustomization(
        tree,
        path,
        json!({
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            "patches": [{ "path": "registration.yaml" }],
        }),
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
        fields
            .entry("apiVersion")
            .or_insert_with(|| "kustomize.config.k8s.io/v1beta1".into());
        fields
            .entry("kind")
            .or_insert_with(|| "Kustomization".into());
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
            let resources = fields["resources"].as_array().into_iter().flatten();
            let patches = fields["patches"].as_array().into_iter().flatten();
            let named: Vec<&Value> = resources
                .chain(patches.map(|patch| &patch["path"]))
                .collect();
            assert!(!named.is_empty(), "{}", path.display());
            for resource in named {
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

    #[test]
    fn without_the_webhook_nothing_of_it_is_left_and_with_it_nothing_is_missing() {
        let tree = rendered();
        let parts = |folder: &str| {
            let path = Path::new("config").join(folder).join("kustomization.yaml");
            let fields: Value = serde_saphyr::from_str(&tree.files[&path]).unwrap();
            fields["resources"].as_array().unwrap().clone()
        };
        let mut all = parts("default");
        all.retain(|part| part != "../webhook");
        let without = parts("default-no-webhook");
        assert_eq!(without, all);
        for part in without {
            let folder = part.as_str().unwrap().replace("..", "config");
            for (path, contents) in &tree.files {
                // A definition may explain its fields by what the webhook does.
                if path.starts_with(&folder) && !path.starts_with("config/crd") {
                    assert!(
                        !contents.contains("ferrolb-webhook\n"),
                        "{}",
                        path.display()
                    );
                }
            }
        }
    }
}
