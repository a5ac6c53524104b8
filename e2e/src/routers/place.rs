//! Where a router runs: a namespace of its own, on the segment of the nodes or one hop behind the site's router.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::plan::{self, ROUTER, SWITCH};
use crate::run::Run;
use crate::{host, network};

/// A machine that exists until this is dropped.
pub struct Place {
    run: Run,
    /// Its name, after the run's prefix.
    pub name: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// How far from the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// On their segment.
    SameLink,
    /// Behind the site's router, which forwards.
    OneRouterBetween,
}

impl Place {
    /// Plugs in a machine. `number` is its own among those that are there at the same time, 1 to 200.
    pub fn make(run: &Run, name: &str, number: u8, distance: Distance) -> Result<Self> {
        let host_part = u16::from(number);
        let place = match distance {
            Distance::SameLink => Self {
                run: run.clone(),
                name: name.to_owned(),
                v4: Ipv4Addr::new(10, 10, 0, number),
                // The digits of both families look the same.
                v6: format!("fd00:10::{number}").parse()?,
            },
            Distance::OneRouterBetween => Self {
                run: run.clone(),
                name: name.to_owned(),
                v4: Ipv4Addr::new(10, 21, number, 100),
                v6: Ipv6Addr::new(0xfd00, 0x21, host_part, 0, 0, 0, 0, 0x100),
            },
        };
        place.unplug();
        host::run("ip", &["netns", "add", &place.namespace()])?;
        let mut settings = vec!["-q", "-w"];
        settings.extend(network::SYSCTLS);
        settings.extend(network::FORWARDING);
        host::run_in(&place.namespace(), "sysctl", &settings)?;
        match distance {
            Distance::SameLink => place.plug_into_segment(number)?,
            Distance::OneRouterBetween => place.plug_into_router(number)?,
        }
        Ok(place)
    }

    pub fn namespace(&self) -> String {
        self.run.namespace(&self.name)
    }

    fn plug_into_segment(&self, number: u8) -> Result<()> {
        // Always the same hardware address: neighbors remember it for longer than a scenario lasts.
        network::batch(
            &self.run.namespace(SWITCH),
            &format!(
                "link add {0} type veth peer name eth0 address 02:fe:00:00:01:{number:02x} netns {1}\nlink set {0} master br0 up\n",
                self.name,
                self.namespace(),
            ),
        )?;
        network::batch(
            &self.namespace(),
            &format!(
                "link set lo up\nlink set eth0 up\naddress add {}/{} dev eth0\naddress add {}/{} dev eth0 nodad\nroute add default via {}\nroute add default via {}\n",
                self.v4,
                plan::SEGMENT_V4_LENGTH,
                self.v6,
                plan::SEGMENT_V6_LENGTH,
                ROUTER.v4,
                ROUTER.v6
            ),
        )
    }

    fn plug_into_router(&self, number: u8) -> Result<()> {
        let near = Ipv4Addr::new(10, 21, number, 1);
        let near6 = Ipv6Addr::new(0xfd00, 0x21, u16::from(number), 0, 0, 0, 0, 1);
        let name = &self.name;
        network::batch(
            &self.run.namespace(ROUTER.name),
            &format!(
                "link add {name} type veth peer name eth0 address 02:fe:00:00:02:{number:02x} netns {}\nlink set {name} up\naddress add {near}/24 dev {name}\naddress add {near6}/64 dev {name} nodad\n",
                self.namespace()
            ),
        )?;
        network::batch(
            &self.namespace(),
            &format!(
                "link set lo up\nlink set eth0 up\naddress add {}/24 dev eth0\naddress add {}/64 dev eth0 nodad\nroute add default via {near}\nroute add default via {near6}\n",
                self.v4, self.v6
            ),
        )
    }

    /// Takes the machine away; its cable goes with it.
    fn unplug(&self) {
        // It is not there before it is made.
        let _ = host::run_always("ip", &["netns", "delete", &self.namespace()]);
        // A process that has not ended yet keeps a deleted namespace alive, and its cable in the next one's way.
        for side in [SWITCH, ROUTER.name] {
            let namespace = self.run.namespace(side);
            let _ = host::run_always("ip", &["-n", &namespace, "link", "delete", &self.name]);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.unplug();
    }
}
