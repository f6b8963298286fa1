//! How the parts of an estate fit together: needs have no cycle, endpoints differ, what is sold is there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::reader::Reader;
use super::service::Draft;
use crate::estate::{Provider, ProviderKind};
use crate::ids::{ProviderName, ServiceName};
use crate::sale::{GUEST_PREFIX, SOLD_PREFIX};

/// At most this many names of a cycle are shown.
const CYCLE_SHOWN_MAX: usize = 12;

/// Reports cycles of needs: one for each need that closes one, so that without these needs there is none.
/// `drafts` are in the order of their names.
pub(super) fn check_cycles(reader: &mut Reader<'_>, drafts: &[Draft]) {
    let graph = Graph::of(drafts);
    let mut walk = Walk { place: vec![Place::New; drafts.len()], path: Vec::new() };
    for root in 0..drafts.len() {
        if walk.place[root] != Place::New {
            continue;
        }
        walk.enter(root);
        while let Some((node, next)) = walk.path.last_mut() {
            let Some((need, span)) = graph.needs[*node].get(*next) else {
                walk.leave();
                continue;
            };
            *next += 1;
            match walk.place[*need] {
                Place::New => walk.enter(*need),
                Place::OnPath(start) => {
                    let cycle = graph.show(&walk.path[start..]);
                    let cause = format!("these services need each other in a circle: {cycle}");
                    let remedy =
                        "remove one of these needs: a service starts after what it needs, so none could be first";
                    reader.report(span.clone(), cause, remedy);
                }
                Place::Done => {}
            }
        }
    }
}

/// Only this machine's offerings are sold to others.
pub(super) fn check_seller(
    reader: &mut Reader<'_>,
    providers: &BTreeMap<ProviderName, Provider>,
    provide: Range<usize>,
) {
    let is_host = |provider: &Provider| matches!(provider.kind, ProviderKind::Host(_));
    if !providers.values().any(is_host) && !reader.may_be_unread("provider") {
        let remedy = "declare this machine as a provider: `[provider.here]` and below it `kind = \"host\"`";
        reader.report(provide, "there is nothing to sell: this machine is no provider here", remedy);
    }
}

/// What others buy here gets names of its own.
pub(super) fn check_name(reader: &mut Reader<'_>, span: Range<usize>, name: &ServiceName) {
    if let Some(prefix) = [SOLD_PREFIX, GUEST_PREFIX].into_iter().find(|prefix| name.as_str().starts_with(prefix)) {
        let cause = format!("names that begin with `{prefix}` are kept for what others buy from this estate");
        reader.report(span, cause, "choose another name");
    }
}

/// Which services need which, by their places in the drafts.
struct Graph<'d> {
    names: Vec<&'d ServiceName>,
    needs: Vec<Vec<(usize, Range<usize>)>>,
}

impl<'d> Graph<'d> {
    fn of(drafts: &'d [Draft]) -> Self {
        let names: Vec<&ServiceName> = drafts.iter().map(|draft| &draft.name).collect();
        let index = |need: &ServiceName| names.binary_search(&need).ok();
        let needs = drafts
            .iter()
            .map(|draft| draft.needs.iter().filter_map(|(need, span)| Some((index(need)?, span.clone()))).collect())
            .collect();
        Self { names, needs }
    }

    /// `a → b → a`; the middle of a long one is left out.
    fn show(&self, cycle: &[(usize, usize)]) -> String {
        let name = |(node, _): &(usize, usize)| self.names[*node].to_string();
        let mut names: Vec<String> = match cycle.len() {
            0..=CYCLE_SHOWN_MAX => cycle.iter().map(name).collect(),
            length => {
                let begin = cycle[..CYCLE_SHOWN_MAX - 2].iter().map(name);
                let left_out = format!("({} more)", length - (CYCLE_SHOWN_MAX - 1));
                begin.chain([left_out]).chain(cycle.last().map(name)).collect()
            }
        };
        names.extend(cycle.first().map(name));
        names.join(" → ")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    New,
    OnPath(usize),
    Done,
}

/// A depth-first walk. It keeps its own stack, so that a long chain of needs cannot overflow the thread's.
struct Walk {
    place: Vec<Place>,
    /// The services on the way here, each with how many of its needs were followed.
    path: Vec<(usize, usize)>,
}

impl Walk {
    fn enter(&mut self, node: usize) {
        self.place[node] = Place::OnPath(self.path.len());
        self.path.push((node, 0));
    }

    fn leave(&mut self) {
        if let Some((node, _)) = self.path.pop() {
            self.place[node] = Place::Done;
        }
    }
}

/// Reports endpoints that cannot be bound together with one declared earlier in the file.
pub(super) fn check_endpoints(reader: &mut Reader<'_>, drafts: &[Draft]) {
    let mut declared: Vec<_> = drafts
        .iter()
        .filter_map(|draft| draft.endpoint.as_ref().map(|(endpoint, span)| (&draft.name, *endpoint, span)))
        .collect();
    declared.sort_by_key(|(_, _, span)| span.start);
    let mut ports: BTreeMap<u16, Port<'_>> = BTreeMap::new();
    for (name, endpoint, span) in declared {
        let ip = endpoint.ip().to_canonical();
        let port = ports.entry(endpoint.port()).or_default();
        if let Some((other_ip, other)) = port.taken(ip) {
            let cause = if ip == other_ip {
                format!("`{name}` and `{other}` have the same endpoint {endpoint}")
            } else {
                let every = if ip.is_unspecified() { ip } else { other_ip };
                let number = endpoint.port();
                format!(
                    "`{name}` and `{other}` both take port {number}: {every} stands for every address of this machine"
                )
            };
            reader.report(
                span.clone(),
                cause,
                "give one of them another port, or leave `endpoint` out to have one assigned",
            );
        }
        port.take(ip, name);
    }
}

/// Who takes one port, on which addresses; of several services on one address the first counts.
#[derive(Default)]
struct Port<'d> {
    holders: BTreeMap<IpAddr, &'d ServiceName>,
    first: Option<(IpAddr, &'d ServiceName)>,
    first_v4: Option<(IpAddr, &'d ServiceName)>,
}

impl<'d> Port<'d> {
    /// Whose address cannot be bound together with `ip`. `::` stands for IPv4 addresses too, as Linux has it.
    fn taken(&self, ip: IpAddr) -> Option<(IpAddr, &'d ServiceName)> {
        let holder = |ip: IpAddr| self.holders.get(&ip).map(|name| (ip, *name));
        let every_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let every_v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        match ip {
            _ if ip == every_v6 => self.first,
            _ if ip == every_v4 => self.first_v4.or_else(|| holder(every_v6)),
            IpAddr::V4(_) => holder(ip).or_else(|| holder(every_v4)).or_else(|| holder(every_v6)),
            IpAddr::V6(_) => holder(ip).or_else(|| holder(every_v6)),
        }
    }

    fn take(&mut self, ip: IpAddr, name: &'d ServiceName) {
        self.holders.entry(ip).or_insert(name);
        self.first.get_or_insert((ip, name));
        if ip.is_ipv4() {
            self.first_v4.get_or_insert((ip, name));
        }
    }
}
