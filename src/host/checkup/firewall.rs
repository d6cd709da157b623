//! What this computer's firewall does with two packets that matter: one that comes out of the tunnel device to a game, and the
//! first one of a stranger to the tunnel's UDP port. Read from `nft --json list ruleset` (which shows what iptables, ufw and
//! firewalld made, too); nothing is changed, and no packet is sent.
//!
//! The rules are walked as the kernel does it, but a condition that is not understood is neither true nor false: what
//! follows from it is `Unsure`. Only what is certain is called a problem. Where the rules cannot be read (no rights, no nft,
//! another system), the answer is `None`, and that is what people are told.

use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Reading the rules takes milliseconds; a firewall of ten thousand rules a second.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The longest text that is understood; larger rule sets belong to routers.
const MOST_BYTES: usize = 16 << 20;
/// Chains that call chains.
const DEPTH: usize = 16;
/// Rules that are looked at for one packet.
const RULES: usize = 50_000;

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It gets in.
    Passes,
    /// It is dropped or refused.
    Dropped,
    /// That depends on something that is not understood here.
    Unsure,
}

/// Who made the rules, as far as their names tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// Ubuntu's `ufw`.
    Ufw,
    /// `firewalld`.
    Firewalld,
    /// Anybody.
    Other,
}

/// What the firewall does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firewall {
    /// Who made it.
    pub maker: Maker,
    /// With a game's packets out of the tunnel device.
    pub games: Fate,
    /// With the first packet of a stranger to the tunnel's port.
    pub strangers: Fate,
    /// With answers to what this computer sent.
    pub answers: Fate,
}

/// A packet, as far as rules look at it.
#[derive(Debug, Clone, Copy)]
struct Packet<'a> {
    device: Option<&'a str>,
    udp: bool,
    port: Option<u16>,
    new: bool,
}

/// What the firewall of this computer does with packets for the tunnel's `port` and from the device `adapter`.
pub async fn look(adapter: &str, port: u16) -> Option<Firewall> {
    if cfg!(not(target_os = "linux")) {
        return None;
    }
    let mut command = Command::new("nft");
    command.args(["--json", "list", "ruleset"]).stdin(Stdio::null()).stderr(Stdio::null());
    // The usual user's PATH leaves out where nft is.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).kill_on_drop(true);
    let out = timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    if !out.status.success() || out.stdout.len() > MOST_BYTES {
        return None;
    }
    judge(&serde_json::from_slice(&out.stdout).ok()?, adapter, port)
}

fn judge(rules: &Value, adapter: &str, port: u16) -> Option<Firewall> {
    let all = rules.get("nftables")?.as_array()?;
    let from_tunnel = Packet { device: Some(adapter), udp: false, port: None, new: true };
    let stranger = Packet { device: None, udp: true, port: Some(port), new: true };
    let named = |start: &str| {
        let names = all.iter().filter_map(|v| v.get("table").or_else(|| v.get("chain")));
        names.into_iter().any(|v| text(v, "name").starts_with(start))
    };
    let maker = if named("ufw-") {
        Maker::Ufw
    } else if named("firewalld") {
        Maker::Firewalld
    } else {
        Maker::Other
    };
    Some(Firewall {
        maker,
        games: fate(all, from_tunnel),
        strangers: fate(all, stranger),
        answers: fate(all, Packet { new: false, ..stranger }),
    })
}

/// A packet has to get through every chain at the hook.
fn fate(all: &[Value], packet: Packet<'_>) -> Fate {
    let chains = all.iter().filter_map(|v| v.get("chain"));
    let hooked = chains.filter(|c| text(c, "hook") == "input" && text(c, "type") == "filter");
    let mut walk = Walk { all, packet, left: RULES };
    let mut worst = Fate::Passes;
    for chain in hooked.filter(|c| matches!(text(c, "family"), "inet" | "ip")) {
        let policy = if text(chain, "policy") == "drop" { Fate::Dropped } else { Fate::Passes };
        let (table, name) = (Table::of(chain), text(chain, "name"));
        let fate = match walk.chain(table, name, 0) {
            Step::Ends(fate) => fate,
            Step::Goes { sure: true } => policy,
            Step::Goes { sure: false } if policy == Fate::Passes => Fate::Passes,
            Step::Goes { sure: false } => Fate::Unsure,
        };
        worst = match (worst, fate) {
            (Fate::Dropped, _) | (_, Fate::Dropped) => Fate::Dropped,
            (Fate::Unsure, _) | (_, Fate::Unsure) => Fate::Unsure,
            (Fate::Passes, Fate::Passes) => Fate::Passes,
        };
    }
    worst
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Table<'a> {
    family: &'a str,
    table: &'a str,
}

impl<'a> Table<'a> {
    fn of(value: &'a Value) -> Self {
        Self { family: text(value, "family"), table: text(value, "table") }
    }
}

/// Where walking through a chain leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Something was decided.
    Ends(Fate),
    /// Nothing was; `sure`: by no rule for certain.
    Goes { sure: bool },
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    No,
    Maybe,
    Yes,
}

struct Walk<'a> {
    all: &'a [Value],
    packet: Packet<'a>,
    left: usize,
}

impl<'a> Walk<'a> {
    fn chain(&mut self, table: Table<'a>, name: &str, depth: usize) -> Step {
        let mut sure = true;
        let all = self.all;
        let rules = all.iter().filter_map(|v| v.get("rule"));
        for rule in rules.filter(|r| Table::of(r) == table && text(r, "chain") == name) {
            self.left = self.left.saturating_sub(1);
            if depth >= DEPTH || self.left == 0 {
                return Step::Goes { sure: false };
            }
            let expressions = rule.get("expr").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let holds = expressions.iter().map(|e| self.holds(e)).min().unwrap_or(Holds::Yes);
            if holds == Holds::No {
                continue;
            }
            let step = expressions.iter().find_map(|e| self.verdict(e, table, depth));
            match (step, holds) {
                (None, _) | (Some(Step::Goes { sure: true }), _) => {}
                (Some(Step::Goes { sure: false }), _) => sure = false,
                (Some(Step::Ends(fate)), Holds::Yes) if sure || fate == Fate::Unsure => {
                    return Step::Ends(fate);
                }
                // Something before it may have decided otherwise, or this may not.
                (Some(Step::Ends(_)), Holds::Yes) => return Step::Ends(Fate::Unsure),
                (Some(Step::Ends(_)), Holds::Maybe | Holds::No) => sure = false,
            }
        }
        Step::Goes { sure }
    }

    fn verdict(&mut self, expression: &Value, table: Table<'a>, depth: usize) -> Option<Step> {
        let object = expression.as_object()?;
        let (key, value) = object.iter().next()?;
        match key.as_str() {
            "accept" => Some(Step::Ends(Fate::Passes)),
            "drop" | "reject" => Some(Step::Ends(Fate::Dropped)),
            "jump" | "goto" => Some(self.chain(table, value.get("target")?.as_str()?, depth + 1)),
            "return" => Some(Step::Goes { sure: true }),
            // Verdicts by map, and whatever iptables has beside its own words.
            "vmap" | "queue" | "xt" => Some(Step::Goes { sure: false }),
            _ => None,
        }
    }

    /// Whether an expression lets the rule go on. What is no condition does.
    fn holds(&self, expression: &Value) -> Holds {
        let Some((key, value)) = expression.as_object().and_then(|o| o.iter().next()) else {
            return Holds::Yes;
        };
        match key.as_str() {
            "match" => self.matches(value),
            "xt" | "limit" | "vmap" => Holds::Maybe,
            _ => Holds::Yes,
        }
    }

    fn matches(&self, condition: &Value) -> Holds {
        let (Some(left), Some(right)) = (condition.get("left"), condition.get("right")) else {
            return Holds::Maybe;
        };
        let holds = self.compares(left, right);
        match (text(condition, "op"), holds) {
            ("==" | "in", holds) => holds,
            ("!=", Holds::Yes) => Holds::No,
            ("!=", Holds::No) => Holds::Yes,
            _ => Holds::Maybe,
        }
    }

    fn compares(&self, left: &Value, right: &Value) -> Holds {
        let meta = left.pointer("/meta/key").and_then(Value::as_str);
        let payload = left.get("payload").map(|p| (text(p, "protocol"), text(p, "field")));
        let connection = left.pointer("/ct/key").and_then(Value::as_str);
        match (meta, payload, connection) {
            (Some("iifname" | "iif"), ..) => self.device(right),
            (Some("l4proto"), ..) | (_, Some(("ip", "protocol")), _) => {
                among(right, |v| v.as_str() == Some(if self.packet.udp { "udp" } else { "tcp" }))
            }
            (Some("nfproto"), ..) => among(right, |v| v.as_str() == Some("ipv4")),
            (Some("pkttype"), ..) => {
                among(right, |v| v.as_str() == Some("unicast") || v.as_str() == Some("host"))
            }
            (_, Some((protocol @ ("udp" | "tcp" | "th"), field)), _) => self.port(protocol, field, right),
            (_, Some(("icmp" | "icmpv6" | "ip6", _)), _) => Holds::No,
            (_, _, Some("state")) => {
                let ours = if self.packet.new { "new" } else { "established" };
                among(right, |v| v.as_str() == Some(ours))
            }
            _ => Holds::Maybe,
        }
    }

    fn device(&self, right: &Value) -> Holds {
        let Some(device) = self.packet.device else {
            // By one of the cards, we do not know which; not by the loopback.
            return if right.as_str() == Some("lo") { Holds::No } else { Holds::Maybe };
        };
        among(right, |v| {
            let name = v.as_str().unwrap_or_default();
            name == device || name.strip_suffix('*').is_some_and(|start| device.starts_with(start))
        })
    }

    fn port(&self, protocol: &str, field: &str, right: &Value) -> Holds {
        if protocol != "th" && (protocol == "udp") != self.packet.udp {
            return Holds::No;
        }
        match (field, self.packet.port) {
            ("dport", Some(port)) => among(right, |v| is_port(v, port)),
            _ => Holds::Maybe,
        }
    }
}

/// Whether one of the values fits: a single one, a list, or a set. Sets by name are not looked up.
fn among(right: &Value, fits: impl Fn(&Value) -> bool) -> Holds {
    if right.as_str().is_some_and(|s| s.starts_with('@')) {
        return Holds::Maybe;
    }
    let list = right.get("set").and_then(Value::as_array).or_else(|| right.as_array());
    let fit = list.map_or_else(|| fits(right), |list| list.iter().any(&fits));
    if fit { Holds::Yes } else { Holds::No }
}

fn is_port(value: &Value, port: u16) -> bool {
    let port = u64::from(port);
    let range = value.get("range").and_then(Value::as_array);
    let ends = range.and_then(|r| Some((r.first()?.as_u64()?, r.get(1)?.as_u64()?)));
    value.as_u64() == Some(port) || ends.is_some_and(|(first, last)| (first..=last).contains(&port))
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(policy: &str, rules: &[Value]) -> Value {
        let mut all = vec![
            json!({"metainfo": {"version": "1.0.6"}}),
            json!({"chain": {"family": "inet", "table": "f", "name": "input", "type": "filter", "hook": "input", "policy": policy}}),
            json!({"chain": {"family": "inet", "table": "f", "name": "more"}}),
        ];
        all.extend(rules.iter().map(|expr| {
            let (chain, expr) = expr.get("in_more").map_or(("input", expr), |e| ("more", e));
            json!({"rule": {"family": "inet", "table": "f", "chain": chain, "expr": expr}})
        }));
        json!({"nftables": all})
    }

    fn looks(policy: &str, list: &[Value]) -> (Fate, Fate, Fate) {
        let f = judge(&rules(policy, list), "lanrage0", 41_641).unwrap();
        (f.games, f.strangers, f.answers)
    }

    fn is(left: Value, right: Value) -> Value {
        json!({"match": {"op": "==", "left": left, "right": right}})
    }

    fn meta(key: &str) -> Value {
        json!({"meta": {"key": key}})
    }

    fn dport() -> Value {
        json!({"payload": {"protocol": "udp", "field": "dport"}})
    }

    fn accept() -> Value {
        json!({"accept": null})
    }

    use Fate::{Dropped, Passes, Unsure};

    #[test]
    fn an_open_computer_lets_everything_in() {
        assert_eq!(looks("accept", &[]), (Passes, Passes, Passes));
        let nothing = judge(&json!({"nftables": []}), "lanrage0", 1).unwrap();
        assert_eq!((nothing.games, nothing.strangers), (Passes, Passes));
        assert_eq!(judge(&json!({"x": 1}), "lanrage0", 1), None);
    }

    #[test]
    fn the_usual_desktop_firewall_drops_games_and_strangers_but_not_answers() {
        let usual = [
            json!([is(meta("iif"), json!("lo")), accept()]),
            json!([
                is(json!({"ct": {"key": "state"}}), json!({"set": ["established", "related"]})),
                accept()
            ]),
            json!([
                is(json!({"payload": {"protocol": "icmp", "field": "type"}}), json!("echo-request")),
                accept()
            ]),
        ];
        assert_eq!(looks("drop", &usual), (Dropped, Dropped, Passes));
        let open = |more: Value| looks("drop", &[&usual[..], &[more]].concat());
        assert_eq!(open(json!([is(dport(), json!(41_641)), accept()])).1, Passes);
        assert_eq!(
            open(json!([is(dport(), json!({"set": [53, {"range": [41_000, 42_000]}]})), accept()])).1,
            Passes
        );
        assert_eq!(open(json!([is(dport(), json!(41_642)), accept()])).1, Dropped);
        assert_eq!(open(json!([is(meta("iifname"), json!("lanrage*")), accept()])), (Passes, Unsure, Passes));
        assert_eq!(open(json!([is(meta("iifname"), json!("lanrage0")), accept()])).0, Passes);
    }

    #[test]
    fn what_is_not_understood_is_not_called_a_problem() {
        let odd = json!([{"xt": {"type": "match", "name": "conntrack"}}, accept()]);
        assert_eq!(looks("drop", std::slice::from_ref(&odd)), (Unsure, Unsure, Unsure));
        assert_eq!(looks("accept", &[odd]), (Passes, Passes, Passes));
        let named = json!([is(dport(), json!("@games")), accept()]);
        assert_eq!(looks("drop", &[named]).1, Unsure);
        let odd_drop = json!([{"limit": {"rate": 1}}, {"drop": null}]);
        assert_ne!(looks("accept", &[odd_drop]).0, Dropped);
    }

    #[test]
    fn chains_are_followed_and_loops_end() {
        let jump = json!([{"jump": {"target": "more"}}]);
        let inside = json!({"in_more": [is(dport(), json!(41_641)), accept()]});
        assert_eq!(looks("drop", &[jump.clone(), inside]), (Dropped, Passes, Passes));
        let back = json!({"in_more": [{"jump": {"target": "more"}}]});
        assert_eq!(looks("drop", &[jump.clone(), back]).0, Unsure);
        let ufw =
            json!({"nftables": [{"chain": {"family": "ip", "table": "filter", "name": "ufw-user-input"}}]});
        assert_eq!(judge(&ufw, "lanrage0", 1).unwrap().maker, Maker::Ufw);
        let refuse = json!({"in_more": [{"reject": null}]});
        assert_eq!(looks("accept", &[jump, refuse]), (Dropped, Dropped, Dropped));
    }
}
