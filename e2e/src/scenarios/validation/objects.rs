//! Objects of every kind, right and wrong: the same in each run.

use serde_json::{Value, json};

use super::texts::{
    ADDRESSES, BAD_ADDRESSES, BAD_COMMUNITIES, BAD_ENTRIES, BAD_TIMES, COMMUNITIES, ENTRIES, FLAGS,
    TIMES,
};
use crate::cluster::SYSTEM;

/// The kinds that people write, with their versions and plurals.
pub const KINDS: [(&str, &str, &str); 7] = [
    ("IPAddressPool", "v1beta1", "ipaddresspools"),
    ("L2Advertisement", "v1beta1", "l2advertisements"),
    ("BGPAdvertisement", "v1beta1", "bgpadvertisements"),
    ("BGPPeer", "v1beta2", "bgppeers"),
    ("BGPPeer", "v1beta1", "bgppeers"),
    ("BFDProfile", "v1beta1", "bfdprofiles"),
    ("Community", "v1beta1", "communities"),
];

/// An optional field, and what it is when right or wrong.
type Field<'a> = (&'a str, &'a dyn Fn(&mut Objects, bool) -> Value);

/// A generator of objects. The same seed gives the same objects.
pub struct Objects {
    state: u64,
}

impl Objects {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// An object of `KINDS[kind]`: about every other is right.
    pub fn next(&mut self, kind: usize, number: usize) -> Value {
        let (name, version, _) = KINDS[kind];
        // A slip of the finger or two duplicates are often right to the API server.
        let wrong = self.below(5) < 3;
        let mut spec = match name {
            "IPAddressPool" => self.pool(wrong),
            "L2Advertisement" => self.l2_advertisement(wrong),
            "BGPAdvertisement" => self.bgp_advertisement(wrong),
            "BGPPeer" => self.peer(version, wrong),
            "BFDProfile" => self.bfd_profile(wrong),
            _ => self.community(wrong),
        };
        // A wrong type in one field, now and then.
        if wrong
            && self.one_in(12)
            && let Some((_, value)) = spec
                .as_object_mut()
                .and_then(|fields| fields.iter_mut().next())
        {
            *value = if value.is_string() {
                json!(7)
            } else {
                json!("seven")
            };
        }
        let mut metadata = json!({ "name": format!("agreement-{number}"), "namespace": SYSTEM });
        if wrong && name == "IPAddressPool" && self.one_in(8) {
            metadata["annotations"] = json!({ "ferrolb.io/reuse-hold": "soon" });
        }
        json!({ "apiVersion": format!("metallb.io/{version}"), "kind": name, "metadata": metadata, "spec": spec })
    }

    /// splitmix64.
    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound as u64).unwrap_or_default()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A right text, or a wrong one: from the list, or a right one with a slip of the finger, which may still be right.
    fn text(&mut self, right: &[&str], bad: &[&str], wrong: bool) -> String {
        if !wrong {
            return self.one_of(right).to_owned();
        }
        if self.one_in(2) {
            return self.one_of(bad).to_owned();
        }
        let mut characters: Vec<char> = self.one_of(right).chars().collect();
        let at = self.below(characters.len());
        match self.below(4) {
            0 => drop(characters.remove(at)),
            1 => characters.insert(at, characters[at]),
            2 => characters.swap(0, at),
            _ => {
                characters[at] = self.one_of(&[
                    ' ', '.', ':', '-', '/', '0', '9', 'f', 'g', '+', '\u{a0}', '\u{e9}',
                ])
            }
        }
        characters.into_iter().collect()
    }

    /// A number from `least` to `most`, or one beside them.
    fn within(&mut self, least: i64, most: i64, wrong: bool) -> Value {
        if wrong {
            return json!(self.one_of(&[least - 1, most + 1]));
        }
        let span = usize::try_from(most - least).unwrap_or_default() + 1;
        let inside = i64::try_from(self.below(span)).unwrap_or_default();
        json!(self.one_of(&[least, most, least + inside]))
    }

    /// One of `fields` is wrong, if any shall be.
    fn which(&mut self, fields: usize, wrong: bool) -> usize {
        if wrong {
            self.below(fields)
        } else {
            usize::MAX
        }
    }

    fn selectors(&mut self, wrong: bool) -> Value {
        if !wrong && self.one_in(3) {
            return json!([]);
        }
        let mut list = vec![json!({ "matchLabels": { "rack": self.one_of(&["1", "2", ""]) } })];
        let (operator, values) = if wrong {
            self.one_of(
                &[
                    ("In", json!([])),
                    ("NotIn", json!(null)),
                    ("Exists", json!(["a"])),
                    ("DoesNotExist", json!(["a"])),
                    ("Equals", json!(["a"])),
                    ("in", json!(["a"])),
                    ("", json!([])),
                ]
                .each_ref(),
            )
            .clone()
        } else {
            self.one_of(
                &[
                    ("In", json!(["a"])),
                    ("NotIn", json!(["a", "b"])),
                    ("Exists", json!(null)),
                    ("DoesNotExist", json!([])),
                ]
                .each_ref(),
            )
            .clone()
        };
        let mut expression = json!({ "key": "zone", "operator": operator });
        if !values.is_null() {
            expression["values"] = values;
        }
        list.push(
            json!({ "matchExpressions": [{ "key": "a", "operator": "Exists" }, expression] }),
        );
        if wrong && self.one_in(5) {
            list = vec![json!({}), json!({})];
        }
        json!(list)
    }

    /// Puts each optional field into `spec` or leaves it out; the wrong one is always there.
    fn fill(&mut self, spec: &mut Value, wrong: usize, fields: &[Field<'_>]) {
        for (index, (name, value)) in fields.iter().enumerate() {
            if index == wrong || self.one_in(3) {
                spec[*name] = value(self, index == wrong);
            }
        }
    }

    fn pool(&mut self, wrong: bool) -> Value {
        let which = self.which(4, wrong);
        let entries: Vec<String> = (0..self.below(3) + 1)
            .map(|index| self.text(ENTRIES, BAD_ENTRIES, which < 2 && index == 0))
            .collect();
        let mut spec = json!({ "addresses": entries });
        if which == 1 && self.one_in(6) {
            spec["addresses"] = json!([]);
        }
        if self.one_in(2) || which > 1 {
            let mut allocation = json!({ "priority": self.below(3) });
            self.fill(
                &mut allocation,
                which.wrapping_sub(2),
                &[
                    ("namespaceSelectors", &Self::selectors),
                    ("serviceSelectors", &Self::selectors),
                ],
            );
            allocation["namespaces"] = if which == 2 && self.one_in(4) {
                json!(["a", "a"])
            } else {
                json!(["a"])
            };
            spec["serviceAllocation"] = allocation;
        }
        spec
    }

    fn names(&mut self, wrong: bool) -> Value {
        if wrong {
            json!(["a", "b", "a"])
        } else {
            json!(["a", self.one_of(&["b", "c"])])
        }
    }

    fn l2_advertisement(&mut self, wrong: bool) -> Value {
        let mut spec = json!({});
        let which = self.which(6, wrong);
        self.fill(&mut spec, which, &[
            ("nodeSelectors", &Self::selectors),
            ("serviceSelectors", &Self::selectors),
            ("ipAddressPoolSelectors", &Self::selectors),
            ("preferredNodeSelectors", &|make, wrong| {
                json!([{ "weight": make.within(1, 100, wrong), "preference": { "matchLabels": { "rack": "1" } } }])
            }),
            ("preferredNodeSelectors", &|make, wrong| {
                let preference = match make.selectors(wrong) {
                    Value::Array(mut list) => list.pop().unwrap_or(json!({})),
                    _ => json!({}),
                };
                json!([{ "weight": 7, "preference": preference }])
            }),
            ("ipAddressPools", &Self::names),
            ("interfaces", &|_, _| json!(["eth0"])),
        ]);
        spec
    }

    fn bgp_advertisement(&mut self, wrong: bool) -> Value {
        let mut spec = json!({});
        let which = self.which(10, wrong);
        self.fill(
            &mut spec,
            which,
            &[
                ("communities", &|make, wrong| {
                    let aliases: &[&str] = &["", "no-export", "large"];
                    let list = [
                        make.text(COMMUNITIES, BAD_COMMUNITIES, wrong),
                        make.text(aliases, aliases, false),
                    ];
                    json!(list)
                }),
                ("communities", &|make, wrong| {
                    json!([make.text(COMMUNITIES, BAD_COMMUNITIES, wrong)])
                }),
                ("localPref", &|make, wrong| {
                    make.within(0, 4_294_967_295, wrong)
                }),
                ("nodeSelectors", &Self::selectors),
                ("ipAddressPoolSelectors", &Self::selectors),
                ("peers", &Self::names),
            ],
        );
        match (which, self.below(3)) {
            (6, _) => spec["aggregationLength"] = self.within(1, 32, true),
            (7, _) => spec["aggregationLengthV6"] = self.within(1, 128, true),
            (8, _) => {
                spec["serviceSelectors"] = self.selectors(false);
                let field = self.one_of(&["aggregationLength", "aggregationLengthV6"]);
                spec[field] = self.within(1, 32, false);
            }
            (9, _) => spec["serviceSelectors"] = self.selectors(true),
            (_, 0) => spec["serviceSelectors"] = self.selectors(false),
            (_, 1) => {
                spec["aggregationLength"] = self.within(1, 32, false);
                spec["aggregationLengthV6"] = self.within(1, 128, false);
            }
            _ => {}
        }
        spec
    }

    fn peer(&mut self, version: &str, wrong: bool) -> Value {
        let newer = version == "v1beta2";
        let mut spec = json!({ "myASN": self.one_of(&[1i64, 64512, 4_294_967_295]) });
        if newer && self.one_in(3) {
            spec["dynamicASN"] = json!(self.one_of(&["internal", "external"]));
        } else {
            spec["peerASN"] = json!(self.one_of(&[1i64, 64512, 4_294_967_295]));
        }
        if newer && self.one_in(3) {
            spec["interface"] = json!("eth0");
        } else {
            let address = self.one_of(ADDRESSES);
            spec["peerAddress"] = json!(address);
            let alike: Vec<&str> = ADDRESSES
                .iter()
                .filter(|other| other.contains(':') == address.contains(':'))
                .copied()
                .collect();
            if self.one_in(3) {
                spec["sourceAddress"] = json!(self.one_of(&alike));
            }
        }
        if self.one_in(2) {
            let (hold, keepalive) = self.one_of(&[
                ("90s", "30s"),
                ("3s", "3s"),
                ("0s", "0s"),
                ("9s", "0"),
                ("1m", "0.5m"),
                ("", "1s"),
                ("", "21845s"),
                ("90s", ""),
            ]);
            for (field, time) in [("holdTime", hold), ("keepaliveTime", keepalive)] {
                if !time.is_empty() {
                    spec[field] = json!(time);
                }
            }
        }
        let which = self.which(9, wrong);
        self.fill(
            &mut spec,
            which,
            &[
                ("routerID", &|make, wrong| {
                    json!(make.text(
                        &["10.0.0.1", "255.255.255.255", ""][..2],
                        &["0.0.0.0", "2001:db8::1", "router", "10.0.0.01"],
                        wrong
                    ))
                }),
                ("nodeSelectors", &Self::selectors),
                ("peerPort", &|make, wrong| make.within(1, 16384, wrong)),
                ("bfdProfile", &|_, _| json!("fast")),
                ("password", &|make, _| json!(make.one_of(&["", "secret"]))),
            ],
        );
        if newer {
            self.fill(
                &mut spec,
                usize::MAX,
                &[
                    ("vrf", &|_, _| json!("red")),
                    ("disableMP", &|make, _| json!(make.one_of(FLAGS) == "true")),
                    ("enableGracefulRestart", &|make, _| {
                        json!(make.one_of(FLAGS) == "true")
                    }),
                    ("localASN", &|make, _| make.within(1, 4_294_967_295, false)),
                    ("connectTime", &|make, _| {
                        json!(make.one_of(&["1s", "2m", "65535s"]))
                    }),
                ],
            );
        }
        match which {
            4 => {
                let field = self.one_of(&["peerAddress", "sourceAddress", "sourceAddress"]);
                let bad = [BAD_ADDRESSES, ADDRESSES].concat();
                spec[field] = json!(self.text(ADDRESSES, &bad, true));
            }
            5 => {
                let field = self.one_of(&["holdTime", "keepaliveTime"]);
                let bad = [BAD_TIMES, &["0s", "100h", "999ms", "21846s"]].concat();
                spec[field] = json!(self.text(TIMES, &bad, true));
            }
            6 => self.contradict(&mut spec, newer),
            7 => {
                let field = self.one_of(&["myASN", "peerASN"]);
                spec[field] = self
                    .one_of(&[json!(0), json!(-1), json!(4_294_967_296_i64)].each_ref())
                    .clone();
            }
            8 if newer => {
                let field = self.one_of(&["connectTime", "localASN", "dynamicASN"]);
                spec[field] = match field {
                    "connectTime" => {
                        let bad = self.one_of(&[BAD_TIMES, &["0s", "1500ms", "1s1us", "65536s"]]);
                        json!(self.text(&["1s", "2m", "65535s"], bad, true))
                    }
                    "localASN" => self.within(1, 4_294_967_295, true),
                    _ => json!(self.one_of(&["", "both", "Internal"])),
                };
            }
            8 => spec["holdTime"] = json!(self.text(TIMES, BAD_TIMES, true)),
            _ => {}
        }
        spec
    }

    /// Two fields of a peer that do not go together, or one that is missing.
    fn contradict(&mut self, spec: &mut Value, newer: bool) {
        let mut remove = |field: &str| {
            if let Some(fields) = spec.as_object_mut() {
                fields.remove(field);
            }
        };
        match self.below(if newer { 7 } else { 3 }) {
            0 => {
                spec["ebgpMultiHop"] = json!(true);
                spec["peerASN"] = spec["myASN"].clone();
            }
            1 => {
                spec["holdTime"] = json!("9s");
                spec["keepaliveTime"] = json!(self.one_of(&["9.001s", "10s", "9s"]));
            }
            2 => remove(self.one_of(&["peerASN", "peerAddress", "myASN"])),
            3 => {
                remove("peerASN");
                remove("dynamicASN");
            }
            4 => {
                spec["interface"] = json!("eth0");
                spec["peerAddress"] = json!(self.one_of(&["192.0.2.1", ""]));
            }
            5 => {
                spec["dynamicASN"] = json!("internal");
                spec["ebgpMultiHop"] = json!(self.one_in(2));
                spec["peerASN"] = json!(self.one_of(&[0, 64512]));
            }
            _ => {
                spec["password"] = json!("secret");
                spec["passwordSecret"] = json!({ "name": self.one_of(&["a", "a", ""]) });
            }
        }
    }

    fn bfd_profile(&mut self, wrong: bool) -> Value {
        let mut spec = json!({});
        let which = self.which(5, wrong);
        self.fill(
            &mut spec,
            which,
            &[
                ("receiveInterval", &|make, wrong| {
                    make.within(10, 60000, wrong)
                }),
                ("transmitInterval", &|make, wrong| {
                    make.within(10, 60000, wrong)
                }),
                ("detectMultiplier", &|make, wrong| {
                    make.within(2, 255, wrong)
                }),
                ("echoInterval", &|make, wrong| make.within(10, 60000, wrong)),
                ("minimumTtl", &|make, wrong| make.within(1, 254, wrong)),
                ("passiveMode", &|make, _| json!(make.one_in(2))),
            ],
        );
        spec
    }

    fn community(&mut self, wrong: bool) -> Value {
        let mut list = vec![json!({ "name": "first", "value": self.one_of(COMMUNITIES) })];
        list.push(
            json!({ "name": "second", "value": self.text(COMMUNITIES, BAD_COMMUNITIES, wrong) }),
        );
        if wrong && self.one_in(8) {
            list.push(json!({ "name": "first", "value": "1:1" }));
        }
        if wrong && self.one_in(8) {
            list.push(json!({ "name": "without-a-value" }));
        }
        json!({ "communities": list })
    }
}
