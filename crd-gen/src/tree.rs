//! Which files are generated.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::files::Tree;
use crate::{crds, yaml};

/// Renders every generated file. `root` is the repository: the bundle's examples are the samples that people write by hand.
pub fn render(_root: &Path) -> anyhow::Result<Tree> {
    let mut tree = Tree {
        folders: vec!["config/crd".into()],
        ..Tree::default()
    };
    definitions(&mut tree)?;
    Ok(tree)
}

fn definitions(tree: &mut Tree) -> anyhow::Result<()> {
    let mut resources = Vec::new();
    for crd in crds::all()? {
        let path = format!("bases/metallb.io_{}.yaml", crd.plural);
        tree.files.insert(
            Path::new("config/crd").join(&path),
            yaml::document(&crd.object)?,
        );
        resources.push(path);
    }
    kustomization(tree, "config/crd", json!({ "resources": resources }))
}

/// Adds the file that makes a folder a kustomize tree.
fn kustomization(
    tree: &mut Tree,
    folder: &str,
    mut fields: serde_json::Value,
) -> anyhow::Result<()> {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert(
            "apiVersion".to_owned(),
            "kustomize.config.k8s.io/v1beta1".into(),
        );
        fields.insert("kind".to_owned(), "Kustomization".into());
    }
    let path = PathBuf::from(folder).join("kustomization.yaml");
    tree.files.insert(path, yaml::document(&fields)?);
    Ok(())
}
