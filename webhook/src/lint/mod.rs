//! Checks YAML files as the cluster would check their objects, without a cluster.

mod documents;
mod metadata;
mod schema;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use ferrolb_api::conversion::convert_bgp_peer;
use ferrolb_api::{DEFAULT_NAMESPACE, GROUP};
use ferrolb_rules::{AllObjects, Known, LastGood, Refusal, Verdict, Warning};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::judge::verdict;
use crate::kind::Kind;

/// What to check.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Every IPAddressPool, L2Advertisement, BGPAdvertisement, BGPPeer, BFDProfile and Community is checked by itself and beside the
others, of its own kind those before it, and so are the annotations of Services and Namespaces; other kinds are passed over.
Nothing is asked of a cluster, so nodes and Secrets are not known.
Exit code: 0 nothing is refused, 1 an object is refused (with --strict: or warned of), 2 a file cannot be read.

Examples:
  ferrolb-webhook lint pools.yaml peers.yaml
  kubectl kustomize overlays/site-a | ferrolb-webhook lint -")]
pub struct LintFlags {
    /// YAML or JSON files, folders of such files, or - for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The namespace that FerroLB is installed in. Objects without a namespace are taken to be applied there.
    #[arg(long, default_value = DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    namespace: String,

    /// Judge Services of this loadBalancerClass. Without it, those that name no class.
    #[arg(long, value_name = "CLASS")]
    lb_class: Option<String>,

    /// Fail on warnings too.
    #[arg(long)]
    strict: bool,
}

/// What came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects that were judged.
    pub objects: usize,
    /// Objects that are refused.
    pub refused: usize,
    /// Warnings.
    pub warnings: usize,
    /// Files or documents that cannot be read.
    pub unreadable: usize,
}

impl Tally {
    /// The exit code.
    #[must_use]
    pub fn exit_code(self, strict: bool) -> u8 {
        match self {
            Tally {
                unreadable: 1.., ..
            } => 2,
            Tally { refused: 1.., .. } => 1,
            Tally { warnings: 1.., .. } if strict => 1,
            _ => 0,
        }
    }
}

/// Checks all files and prints what is wrong.
///
/// # Errors
/// If `out` cannot be written.
pub fn run(flags: &LintFlags, out: &mut impl Write) -> std::io::Result<u8> {
    let mut tally = Tally::default();
    let mut judged = Vec::new();
    let documents = documents::read(&flags.files);
    if documents.is_empty() {
        writeln!(out, "there is no object in what was given")?;
        tally.unreadable += 1;
    }
    for document in documents {
        let place = &document.place;
        match document.content {
            Ok(object) => match of_another_kind(&object) {
                None => judged.extend(Judged::of(&document.place, object, flags)),
                Some(Other::PassedOver) => {}
                Some(Other::Unknown(why)) => {
                    tally.refused += 1;
                    writeln!(out, "{place}: {why}")?;
                }
            },
            Err(error) => {
                tally.unreadable += 1;
                writeln!(out, "{place}: {error}")?;
            }
        }
    }
    tally.objects = judged.len();
    warn_of_twins(&mut judged, flags);
    judge_all(&mut judged, flags);
    for object in &judged {
        tally.refused += usize::from(!object.refusals.is_empty());
        tally.warnings += object.warnings.len();
        let (place, kind, name) = (&object.place, object.kind.name(), &object.name);
        for refusal in &object.refusals {
            writeln!(
                out,
                "{place}: {kind} {name:?}, {}: {}",
                refusal.field, refusal.reason
            )?;
        }
        for warning in &object.warnings {
            writeln!(out, "{place}: warning: {kind} {name:?}, {warning}")?;
        }
    }
    let Tally {
        objects,
        refused,
        warnings,
        unreadable,
    } = tally;
    writeln!(
        out,
        "{objects} objects checked as in namespace {}: {refused} refused, {warnings} warnings, {unreadable} unreadable",
        flags.namespace
    )?;
    Ok(tally.exit_code(flags.strict))
}

/// An object that is not judged.
enum Other {
    /// Somebody else's.
    PassedOver,
    /// No API server knows what it is, and it looks like ours.
    Unknown(String),
}

/// The kinds of our group that nobody writes.
const WRITTEN_BY_US: [&str; 3] = ["ConfigurationState", "ServiceBGPStatus", "ServiceL2Status"];

/// Why an object is not of a kind that is judged, if it is not. One that only looks like ours would go unchecked here and be
/// refused by the cluster.
fn of_another_kind(object: &Value) -> Option<Other> {
    let (version, kind) = (text_of(object, "/apiVersion"), text_of(object, "/kind"));
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
    match known {
        Some(known) if known.is_foreign() => (version != "v1").then_some(Other::PassedOver),
        Some(_) if version.is_empty() => Some(Other::Unknown(format!(
            "{kind} has no apiVersion; write apiVersion: {GROUP}/v1beta1, or v1beta2 for a BGPPeer"
        ))),
        Some(_) if group == GROUP => None,
        Some(_) => Some(Other::Unknown(format!(
            "there is no {kind} in {version}; write apiVersion: {GROUP}/v1beta1, or v1beta2 for a BGPPeer"
        ))),
        None if group == GROUP && !WRITTEN_BY_US.contains(&kind) => {
            let ours: Vec<&str> = Kind::ALL
                .into_iter()
                .filter(|known| !known.is_foreign())
                .map(Kind::name)
                .collect();
            Some(Other::Unknown(format!(
                "there is no kind {kind:?} in {GROUP}; write one of {}",
                ours.join(", ")
            )))
        }
        None => Some(Other::PassedOver),
    }
}

/// An object that concerns us.
struct Judged {
    place: String,
    kind: Kind,
    name: String,
    /// In the version that is judged.
    object: Value,
    refusals: Vec<Refusal>,
    warnings: Vec<Warning>,
}

impl Judged {
    /// The object of a document, if it is of a kind that is judged.
    fn of(place: &str, object: Value, flags: &LintFlags) -> Option<Self> {
        let text = |pointer: &str| {
            let value = object.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let kind = Kind::ALL.into_iter().find(|known| {
            let group = if known.is_foreign() {
                version == "v1"
            } else {
                version.split('/').next() == Some(GROUP)
            };
            group && known.name() == kind
        })?;
        let mut judged = Judged {
            place: place.to_owned(),
            kind,
            name,
            object,
            refusals: Vec::new(),
            warnings: Vec::new(),
        };
        let namespace = text_of(&judged.object, "/metadata/namespace");
        if !kind.is_foreign() && !namespace.is_empty() && namespace != flags.namespace {
            judged.refuse(
                "metadata.namespace",
                format!("resource must be created in {} namespace", flags.namespace),
            );
        }
        let mut problems = metadata::check(kind, &judged.object);
        problems.extend(schema::check(kind, &version, &judged.object));
        for (field, problem) in problems {
            judged.refuse(field, problem);
        }
        reduce(kind, &mut judged.object);
        judged.convert(&version);
        Some(judged)
    }

    fn refuse(&mut self, field: impl Into<String>, reason: impl std::fmt::Display) {
        let refusal = Refusal::new(self.kind.name(), &self.name, field, reason);
        self.refusals.push(refusal);
    }

    fn is_accepted(&self) -> bool {
        self.refusals.is_empty()
    }

    /// The verdict beside what is known; an object that cannot be read is refused.
    fn ask(&mut self, known: &Known, flags: &LintFlags) -> Option<Verdict> {
        match verdict(self.kind, &self.object, known, flags.lb_class.as_deref()) {
            Ok(verdict) => Some(verdict),
            Err(error) => {
                self.refuse("spec", format!("cannot be read: {error}"));
                None
            }
        }
    }

    /// Adds to what schema and names say what rules say of other fields, so that one mistake does not hide the others.
    fn add_what_rules_say(&mut self, known: &Known, flags: &LintFlags) {
        let class = flags.lb_class.as_deref();
        let Ok(verdict) = verdict(self.kind, &self.object, known, class) else {
            return;
        };
        let told = |field: &str| {
            let mut refusals = self.refusals.iter();
            refusals.any(|refusal| refusal.field == field)
        };
        let others = verdict.refusals.into_iter();
        let others: Vec<Refusal> = others.filter(|refusal| !told(&refusal.field)).collect();
        self.refusals.extend(others);
    }

    /// BGPPeers are judged in the version in which they are stored.
    fn convert(&mut self, version: &str) {
        const OLDER: &str = "metallb.io/v1beta1";
        if self.kind != Kind::BGPPeer || version != OLDER {
            return;
        }
        self.warnings.push(Warning {
            field: "apiVersion".to_owned(),
            text: "v1beta1 is deprecated, please use v1beta2".to_owned(),
        });
        if !self.is_accepted() {
            return;
        }
        match convert_bgp_peer(self.object.take(), "metallb.io/v1beta2") {
            Ok(object) => self.object = object,
            Err(error) => self.refuse("apiVersion", error),
        }
    }
}

/// Takes off what nobody here reads, so that it cannot be what keeps an object from being read.
fn reduce(kind: Kind, object: &mut Value) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    object.remove("status");
    if let Some(spec) = object.get_mut("spec") {
        drop_nulls(spec);
    }
    if object.get("spec").is_some_and(Value::is_null) {
        object.remove("spec");
    }
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata
            .retain(|field, value| metadata::READ.contains(&field.as_str()) && !value.is_null());
    }
    match (kind, object.get_mut("spec")) {
        (Kind::Service, Some(Value::Object(spec))) => {
            spec.retain(|field, _| schema::OF_A_SERVICE.contains(&field.as_str()));
        }
        (Kind::Namespace, Some(_)) => {
            object.remove("spec");
        }
        _ => {}
    }
}

/// Fields without a value are dropped by the API server before anybody reads them.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(entries) => entries.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn text_of<'a>(object: &'a Value, pointer: &str) -> &'a str {
    let value = object.pointer(pointer).and_then(Value::as_str);
    value.unwrap_or_default()
}

/// Warns of objects that overwrite one that was given before.
fn warn_of_twins(judged: &mut [Judged], flags: &LintFlags) {
    let mut first = BTreeMap::new();
    for object in judged.iter_mut().filter(|object| !object.name.is_empty()) {
        let namespace = text_of(&object.object, "/metadata/namespace").to_owned();
        let ours = !object.kind.is_foreign() && namespace.is_empty();
        let namespace = if ours {
            flags.namespace.clone()
        } else {
            namespace
        };
        match first.entry((object.kind.name(), namespace, object.name.clone())) {
            Entry::Vacant(entry) => {
                entry.insert(object.place.clone());
            }
            Entry::Occupied(entry) => object.warnings.push(Warning {
                field: "metadata.name".to_owned(),
                text: format!(
                    "an object of this name stands at {} already, and the later one takes its place; remove one of the two",
                    entry.get()
                ),
            }),
        }
    }
}

/// Judges each object beside those before it, as if they were applied kind by kind: which file comes first must not decide
/// whether an advertisement is refused for a pool that it does not fit. Then warns of those that went in, beside all that went in:
/// what their fields name may come later, and what is refused is never there.
fn judge_all(judged: &mut [Judged], flags: &LintFlags) {
    let mut accepted = AllObjects::default();
    for kind in Kind::ALL {
        for object in judged.iter_mut().filter(|object| object.kind == kind) {
            let known = Known::new(accepted.clone(), &mut LastGood::default(), None);
            if !object.is_accepted() {
                object.add_what_rules_say(&known, flags);
                continue;
            }
            if let Some(verdict) = object.ask(&known, flags) {
                object.refusals = verdict.refusals;
            }
            if object.is_accepted() {
                add(&mut accepted, object);
            }
        }
    }
    let mut in_the_end = Known::new(accepted, &mut LastGood::default(), None);
    for object in judged.iter().filter(|object| !object.is_accepted()) {
        in_the_end.exists_too(object.kind.name(), &object.name);
    }
    for object in judged.iter_mut().filter(|object| object.is_accepted()) {
        if let Some(verdict) = object.ask(&in_the_end, flags) {
            object.warnings.extend(verdict.warnings);
        }
    }
}

fn add(all: &mut AllObjects, object: &Judged) {
    fn put<K: DeserializeOwned + kube::ResourceExt>(list: &mut Vec<Arc<K>>, object: &Value) {
        if let Ok(object) = K::deserialize(object) {
            let name = object.name_any();
            list.retain(|other| other.name_any() != name);
            list.push(Arc::new(object));
        }
    }
    let value = &object.object;
    match object.kind {
        Kind::IPAddressPool => put(&mut all.pools, value),
        Kind::L2Advertisement => put(&mut all.l2_advertisements, value),
        Kind::BGPAdvertisement => put(&mut all.bgp_advertisements, value),
        Kind::BGPPeer => put(&mut all.peers, value),
        Kind::BFDProfile => put(&mut all.bfd_profiles, value),
        Kind::Community => put(&mut all.communities, value),
        Kind::Service | Kind::Namespace => {}
    }
}
