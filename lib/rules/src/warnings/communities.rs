//! What about a Community object is legal and probably wrong?

use ferrolb_api::v1beta1::Community;
use kube::ResourceExt;

use super::quoted;
use crate::verdict::Verdict;

pub(crate) fn warn(object: &Community, verdict: &mut Verdict) {
    super::annotations("Community", object.annotations(), verdict);
    for (index, alias) in object.spec.communities.iter().enumerate() {
        let field = format!("spec.communities[{index}].name");
        if alias.name.is_empty() {
            verdict.warn(
                field,
                format!(
                    "is empty, and nobody will know what {} is for; give it a name for spec.communities of BGPAdvertisements",
                    quoted(&alias.value)
                ),
            );
        } else if alias.name.contains(':') {
            verdict.warn(
                field,
                format!(
                    "{} has a colon, so a BGPAdvertisement takes it for a value and never for this alias; write a name without one",
                    quoted(&alias.name)
                ),
            );
        }
    }
}
