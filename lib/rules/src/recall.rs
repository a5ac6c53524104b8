//! What statuses say was in force, taken over by a process that does not know it or knows otherwise.

use std::sync::Arc;

use ferrolb_api::{StaysInForce, form_of, in_form};
use kube::ResourceExt;

use crate::advertisements;
use crate::all_objects::AllObjects;
use crate::communities;
use crate::last_good::LastGood;
use crate::peers;
use crate::pools;
use crate::reading;

impl LastGood {
    /// Takes over what statuses say, each kind in the order in which reading needs it.
    pub(crate) fn recall(&mut self, objects: &AllObjects) {
        for object in &objects.communities {
            let Some(former) = self.recalled("Community", object) else {
                continue;
            };
            let name = object.name_any();
            let aliases = &mut self.configuration.aliases;
            aliases.retain(|_, alias| alias.object != name);
            let former = former.iter().flat_map(|former| &former.spec.communities);
            for (index, alias) in former.enumerate() {
                if let Ok(parsed) = communities::parse_alias(&name, index, alias) {
                    aliases.insert(alias.name.clone(), parsed);
                }
            }
        }
        for object in &objects.pools {
            let Some(former) = self.recalled("IPAddressPool", object) else {
                continue;
            };
            let (all, forms) = (&mut self.configuration.pools, &mut self.forms.pools);
            let name = object.name_any();
            all.remove(&name);
            forms.remove(&name);
            if let Some(former) = former
                && let Ok(pool) = pools::parse(&former)
            {
                all.insert(name.clone(), pool);
                forms.insert(name, Arc::new(former).into());
            }
        }
        for object in &objects.l2_advertisements {
            let Some(former) = self.recalled("L2Advertisement", object) else {
                continue;
            };
            let all = &mut self.configuration.l2_advertisements;
            let forms = &mut self.forms.l2_advertisements;
            let name = object.name_any();
            if forms.remove(&name).is_some() {
                all.retain(|other| other.name != name);
            }
            if let Some(former) = former
                && let Ok(advertisement) = advertisements::parse_l2(&former)
            {
                all.push(advertisement);
                forms.insert(name, Arc::new(former).into());
            }
        }
        let aliases = reading::aliases_of(&self.configuration);
        for object in &objects.bgp_advertisements {
            let Some(former) = self.recalled("BGPAdvertisement", object) else {
                continue;
            };
            let all = &mut self.configuration.bgp_advertisements;
            let forms = &mut self.forms.bgp_advertisements;
            let name = object.name_any();
            if forms.remove(&name).is_some() {
                all.retain(|other| other.name != name);
            }
            if let Some(former) = former
                && let Ok(advertisement) = advertisements::parse_bgp(&former, Some(&aliases))
            {
                all.push(advertisement);
                forms.insert(name, Arc::new(former).into());
            }
        }
        for object in &objects.peers {
            let Some(former) = self.recalled("BGPPeer", object) else {
                continue;
            };
            let (all, forms) = (&mut self.configuration.peers, &mut self.forms.peers);
            let name = object.name_any();
            all.remove(&name);
            forms.remove(&name);
            if let Some(former) = former
                && let Ok(peer) = peers::parse(&former)
            {
                all.insert(name.clone(), peer);
                forms.insert(name, Arc::new(former).into());
            }
        }
    }

    /// The object as its status says that it is in force, or that it is not, where that is to be taken over: of an object that is
    /// not known, and of one of which the writer, who has seen it as it is now, says otherwise than is remembered. (Of two edits
    /// one after the other a watch may show the second alone, and not to all.)
    fn recalled<K: StaysInForce>(
        &mut self,
        kind: &'static str,
        object: &Arc<K>,
    ) -> Option<Option<K>> {
        let record = object.in_force()?;
        let name = object.name_any();
        if !self.knows(kind, &**object) {
            let former = in_form(&**object)?;
            self.know(kind, name, object.uid());
            return Some(Some(former));
        }
        if self.writes || !record.is_of(&**object) {
            return None;
        }
        if self.forms.holds(kind, &name, object) && record.is_as_written() {
            return None;
        }
        let remembered = self.forms.of(kind, &name);
        if !record.is_as_written() && record.form.is_none() {
            return remembered.is_some().then_some(None);
        }
        let former = in_form(&**object)?;
        (remembered.as_deref() != Some(form_of(&former).as_str())).then_some(Some(former))
    }
}
