//! The corpus, a watchdog as the host has one, and what is asked of every hostile plugin.

use lanrage::model::dice::Seed;
use lanrage::model::id::{PeerId, ProfileId};
use lanrage::model::script::{
    Ask, CallId, Hook, PluginIx, ScriptAnswer, ScriptCall, ScriptFault, ScriptPacket, ScriptPeer,
};
use lanrage::plugin::code::Code;
use lanrage::plugin::manifest::check_manifest;
use lanrage::plugin::vm::Vm;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

pub(crate) const MANIFEST: &str = r#"
id = "hostile"
name = "Hostile"
version = "1.0.0"
api = 1
about = "Means no good"
licence = "MIT"
games = ["test"]
[may]
udp = "6112-6119"
tcp = 6112
groups = ["224.0.2.60"]
rewrite = true
send = true
"#;

/// When the host loses its patience.
const FLAG_AFTER: Duration = Duration::from_millis(10);

/// And during the first run.
const LOAD_FLAG_AFTER: Duration = Duration::from_secs(1);

/// For what ends by itself: nothing is to be stopped because other programs have the processor.
const NEVER: Duration = Duration::from_secs(60);

/// How long a call may take, flag and all.
const LIMIT: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Fails,
    Sleeps,
    Stops,
    Works,
}

pub(crate) struct Hostile {
    pub(crate) name: String,
    pub(crate) hook: String,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) said: String,
    pub(crate) code: Code,
}

pub(crate) fn corpus() -> Vec<Hostile> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/hostile");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let sources = files.iter().filter(|path| path.extension().is_some_and(|e| e == "luau"));
    sources
        .map(|path| {
            let manifest = std::fs::read_to_string(path.with_extension("toml")).ok();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            Hostile::read(&name, &std::fs::read_to_string(path).unwrap(), manifest.as_deref())
        })
        .collect()
}

/// A plugin with one hook, and one that says that the state is alive.
pub(crate) fn source(hook: &str, args: &str, body: &str) -> String {
    format!("return {{ {hook} = function({args})\n{body}\nend, check = function() return 'alive' end }}")
}

impl Hostile {
    pub(crate) fn made(name: &str, main: &str) -> Self {
        Self::read(name, &format!("-- load works\n{main}"), None).without_first_line(main)
    }

    pub(crate) fn of_files(main: &str, files: &[(&str, &str)]) -> Self {
        let mut plugin = Self::made("files", main);
        plugin
            .code
            .files
            .extend(files.iter().map(|(name, text)| (format!("{name}.luau"), (*text).to_owned())));
        plugin
    }

    fn without_first_line(mut self, main: &str) -> Self {
        self.code.files.insert("main.luau".into(), main.into());
        self
    }

    pub(crate) fn read(name: &str, text: &str, manifest: Option<&str>) -> Self {
        let first = text.lines().next().unwrap().strip_prefix("-- ").expect("a first line");
        let (head, said) = first.split_once(": ").unwrap_or((first, ""));
        let (hook, outcomes) = head.split_once(' ').unwrap_or(("check", head));
        let outcomes = outcomes.split(" or ").map(|word| match word {
            "fails" => Outcome::Fails,
            "sleeps" => Outcome::Sleeps,
            "stops" => Outcome::Stops,
            "works" => Outcome::Works,
            other => panic!("{name}: no outcome `{other}`"),
        });
        let manifest = check_manifest("plugin.toml", manifest.unwrap_or(MANIFEST)).expect("a good manifest");
        let files = BTreeMap::from([("main.luau".to_owned(), text.to_owned())]);
        Self {
            name: name.into(),
            hook: hook.into(),
            outcomes: outcomes.collect(),
            said: said.into(),
            code: Code { manifest, files },
        }
    }

    pub(crate) fn load(&self) -> (Result<Vm, ScriptFault>, Duration) {
        let stop = Arc::new(AtomicBool::new(false));
        watched(&stop, NEVER, || Vm::load(&self.code, Seed::from_u64(1), Arc::clone(&stop)))
    }

    pub(crate) fn ask_one(&self, vm: &mut Vm, hook: &str) -> (Result<ScriptAnswer, ScriptFault>, Duration) {
        let packet = || {
            Box::new(ScriptPacket {
                game: ProfileId::from("test"),
                peer: Some(PeerId([1; 10])),
                from: "10.77.1.1:6112".parse().unwrap(),
                to: "255.255.255.255:6113".parse().unwrap(),
                me: [10, 77, 1, 9].into(),
                payload: b"0123456789".to_vec(),
            })
        };
        let hook = Hook::ALL.into_iter().find(|h| h.name() == hook).expect("a hook");
        let ask = match hook {
            Hook::Announcement | Hook::Query | Hook::Answer | Hook::Describe => Ask::Packet(hook, packet()),
            Hook::PeerJoined => Ask::PeerJoined(peer()),
            Hook::PeerLeft => Ask::PeerLeft(peer().id),
            Hook::Tick => Ask::Tick,
            Hook::Check => Ask::Check,
        };
        self.ask_raw(vm, ask)
    }

    pub(crate) fn ask_raw(&self, vm: &mut Vm, ask: Ask) -> (Result<ScriptAnswer, ScriptFault>, Duration) {
        let call = ScriptCall { id: CallId(1), plugin: PluginIx(0), at: Duration::from_secs(1), ask };
        let before = spent();
        let answer = vm.ask(&call);
        (answer, spent() - before)
    }

    /// What is wrong, if anything. A busy computer can make one measurement bad, so the best of three counts.
    pub(crate) fn judge(&self) -> Result<(), String> {
        let mut took = Duration::MAX;
        for _ in 0..3 {
            took = took.min(self.judge_once()?);
            if took <= if self.hook == "load" { LOAD_FLAG_AFTER + LIMIT } else { LIMIT } {
                return Ok(());
            }
        }
        Err(format!("took {took:?}"))
    }

    fn judge_once(&self) -> Result<Duration, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let loading = self.hook == "load";
        let load = || Vm::load(&self.code, Seed::from_u64(1), Arc::clone(&stop));
        let stops = self.outcomes.contains(&Outcome::Stops);
        let (loaded, took) = watched(&stop, if loading && stops { LOAD_FLAG_AFTER } else { NEVER }, load);
        let mut vm = match loaded {
            Ok(vm) => vm,
            Err(fault) if loading => {
                return self.fits(Err(&fault)).map(|()| took);
            }
            Err(fault) => return Err(format!("was not loaded: {fault:?}")),
        };
        if loading {
            return self.fits(Ok(())).map(|()| took);
        }
        let _ = self.ask_raw(&mut vm, Ask::PeerJoined(peer()));
        let patience = if stops { FLAG_AFTER } else { NEVER };
        let ((answer, _), took) = watched(&stop, patience, || self.ask_one(&mut vm, &self.hook));
        self.fits(answer.as_ref().map(|_| ()))?;
        if matches!(answer, Ok(_) | Err(ScriptFault::Failed(_))) && self.hook != "check" {
            stop.store(false, Ordering::Relaxed);
            let alive = vm.ask(&ScriptCall {
                id: CallId(2),
                plugin: PluginIx(0),
                at: Duration::from_secs(20),
                ask: Ask::Check,
            });
            if alive.as_ref().ok().and_then(|a| a.check.as_deref()) != Some("alive") {
                return Err(format!("the state is not alive after {answer:?}: {alive:?}"));
            }
        }
        Ok(took)
    }

    fn fits(&self, came: Result<(), &ScriptFault>) -> Result<(), String> {
        let by_limit = ["it took too long and was stopped", "it used up its budget of steps"];
        // Where the memory may be full first, the message is the memory's.
        let sleeps = self.outcomes.contains(&Outcome::Sleeps);
        let fits = self.outcomes.iter().any(|outcome| match (outcome, came) {
            (Outcome::Works, Ok(())) => true,
            (Outcome::Fails, Err(ScriptFault::Failed(text)))
            | (Outcome::Sleeps, Err(ScriptFault::PutToSleep(text))) => {
                text.starts_with("plugin `hostile`: ") && text.contains(&self.said)
            }
            (Outcome::Stops, Err(ScriptFault::PutToSleep(text))) => {
                let told = |why: &&str| {
                    text.ends_with(*why)
                        && (sleeps || *text == format!("plugin `hostile`: {}: {why}", self.said))
                };
                by_limit.iter().any(told)
            }
            _ => false,
        });
        let text = format!("{came:?}");
        if fits && text.len() < 1_200 && !text.contains("\\u{1b}") { Ok(()) } else { Err(text) }
    }
}

fn peer() -> ScriptPeer {
    ScriptPeer { id: PeerId([1; 10]), name: "Ann".into(), address: [10, 77, 1, 1].into() }
}

/// Runs something while another thread raises the flag after a while, as the host's watchdog does.
fn watched<T>(stop: &AtomicBool, patience: Duration, run: impl FnOnce() -> T) -> (T, Duration) {
    let (done, wait) = mpsc::channel::<()>();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            if wait.recv_timeout(patience).is_err_and(|e| e == mpsc::RecvTimeoutError::Timeout) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        let before = spent();
        let result = run();
        let took = spent() - before;
        drop(done);
        (result, took)
    })
}

/// Time that this thread ran, where the system tells it: what counts is what a script takes, not what other programs do
/// meanwhile. Elsewhere the time on the wall.
fn spent() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}
