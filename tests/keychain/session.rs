//! A private D-Bus session with a home of its own, and the keyring daemon in it.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue, Type, Value};

use super::child::{Folder, within};

/// Which test this process runs inside of its session; set by [`in_session`] only.
const INSIDE: &str = "STORAGE_SYNC_TEST_SESSION";
const SECRETS: &str = "org.freedesktop.secrets";
const PATH: &str = "/org/freedesktop/secrets";
const LOGIN: &str = "/org/freedesktop/secrets/collection/login";
const SERVICE: &str = "org.freedesktop.Secret.Service";
const PASSWORD: &str = "password of the test";
/// What the service wrote, in the home.
const LOG: &str = "service.log";
/// When a test has to end, from inside and bus included.
const LIFE: Duration = Duration::from_secs(120);

/// No service directories: the bus starts nothing by itself, neither the machine's keyring nor its prompts.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"#;

/// What a test has inside of its session.
pub struct Session {
    pub bus: zbus::Connection,
    /// A data folder.
    pub folder: Folder,
    home: PathBuf,
}

/// Runs `work` in a process of its own, inside of a private session. `name` is the test's, with its module.
pub fn in_session<F: Future<Output = ()>>(name: &str, work: impl FnOnce(Session) -> F) {
    match std::env::var(INSIDE) {
        Ok(inside) if inside == name => inside_of_it(work),
        Ok(_) => {}
        Err(_) => outside_of_it(name),
    }
}

fn outside_of_it(name: &str) {
    let home = tempfile::tempdir().unwrap();
    let (run, bus, folder) = (home.path().join("run"), home.path().join("bus.conf"), home.path().join("data"));
    fs::create_dir(&run).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(&bus, BUS).unwrap();
    let ran = Command::new("dbus-run-session")
        .arg("--config-file")
        .arg(&bus)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, name)
        .env("HOME", home.path())
        .env("XDG_RUNTIME_DIR", &run)
        .envs([("XDG_DATA_HOME", home.path().join(".local/share")), ("XDG_CONFIG_HOME", home.path().join(".config"))])
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .env_remove("GNOME_KEYRING_CONTROL")
        .output()
        .expect("dbus-run-session is needed: apt-get install dbus gnome-keyring libsecret-tools");
    if !ran.status.success() {
        let said = [&ran.stdout[..], &ran.stderr, &fs::read(home.path().join(LOG)).unwrap_or_default()].concat();
        panic!("{name} failed inside of its session: {}\n{}", ran.status, String::from_utf8_lossy(&said));
    }
    // A name that matches no test would pass unseen.
    assert!(home.path().join("passed").exists(), "{name} did not run inside of its session");
}

fn inside_of_it<F: Future<Output = ()>>(work: impl FnOnce(Session) -> F) {
    std::thread::spawn(|| {
        std::thread::sleep(LIFE);
        eprintln!("the test did not end within {LIFE:?}");
        std::process::exit(1);
    });
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let bus = zbus::Connection::session().await.unwrap();
        work(Session { bus, folder: Folder::at(&home.join("data")), home: home.clone() }).await;
    });
    fs::write(home.join("passed"), "").unwrap();
}

/// A running gnome-keyring, ended when dropped.
pub struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Session {
    /// Starts the service with its login collection unlocked, which creates it in a new home.
    pub async fn unlocked_service(&self) -> Daemon {
        let daemon = self.service(Some(PASSWORD)).await;
        assert_eq!(self.locked().await, Some(false));
        daemon
    }

    /// Starts the service as after a login without a password: what is there is locked.
    pub async fn locked_service(&self) -> Daemon {
        self.service(None).await
    }

    async fn service(&self, password: Option<&str>) -> Daemon {
        let mut command = Command::new("gnome-keyring-daemon");
        command.args(["--foreground", "--components=secrets"]).args(password.map(|_| "--unlock"));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.home.join(LOG)).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("gnome-keyring-daemon is needed: apt-get install gnome-keyring");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(password.unwrap_or_default().as_bytes()).unwrap();
        drop(stdin);
        self.until("the service is there", async || self.has_owner().await).await;
        Daemon(child)
    }

    /// Ends the service and waits until the bus knows.
    pub async fn end(&self, daemon: Daemon) {
        drop(daemon);
        self.until("the service is gone", async || !self.has_owner().await).await;
    }

    async fn has_owner(&self) -> bool {
        let bus = zbus::fdo::DBusProxy::new(&self.bus).await.unwrap();
        bus.name_has_owner(SECRETS.try_into().unwrap()).await.unwrap()
    }

    /// Whether the login collection is locked, if there is one.
    pub async fn locked(&self) -> Option<bool> {
        let at = zbus::names::BusName::try_from(SECRETS).unwrap();
        let args = ("org.freedesktop.Secret.Collection", "Locked");
        let properties = Some("org.freedesktop.DBus.Properties");
        let answer = self.bus.call_method(Some(at), LOGIN, properties, "Get", &args).await.ok()?;
        Some(answer.body().deserialize::<OwnedValue>().unwrap().try_into().unwrap())
    }

    pub async fn lock(&self) {
        let (_, prompt): (Vec<OwnedObjectPath>, OwnedObjectPath) =
            self.ask(SERVICE, "Lock", &(vec![zbus::zvariant::ObjectPath::try_from(LOGIN).unwrap()],)).await;
        assert_eq!(prompt.as_str(), "/");
        assert_eq!(self.locked().await, Some(true));
    }

    /// Unlocks as the login does, without a prompt.
    pub async fn unlock(&self) {
        let (_, session): (OwnedValue, OwnedObjectPath) =
            self.ask(SERVICE, "OpenSession", &("plain", Value::from(""))).await;
        let secret = (session, Vec::<u8>::new(), PASSWORD.as_bytes().to_vec(), "text/plain");
        let collection = zbus::zvariant::ObjectPath::try_from(LOGIN).unwrap();
        let login = "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface";
        let () = self.ask(login, "UnlockWithMasterPassword", &(collection, secret)).await;
        assert_eq!(self.locked().await, Some(false));
    }

    async fn ask<B, T>(&self, interface: &str, method: &str, body: &B) -> T
    where
        B: serde::Serialize + DynamicType,
        T: serde::de::DeserializeOwned + Type,
    {
        let answer = self.bus.call_method(Some(SECRETS), PATH, Some(interface), method, body).await.unwrap();
        answer.body().deserialize().unwrap()
    }

    /// The file that holds the login collection.
    pub fn keyring_file(&self) -> PathBuf {
        self.home.join(".local/share/keyrings/login.keyring")
    }

    /// What another program of the same user finds in the item, and `None` if there is none.
    pub fn look_up(&self, service: &str, user: &str) -> Option<String> {
        let found = Command::new("secret-tool")
            .args(["lookup", "service", service, "username", user])
            .output()
            .expect("secret-tool is needed: apt-get install libsecret-tools");
        found.status.success().then(|| String::from_utf8(found.stdout).unwrap())
    }

    /// The name of the app's item without accounts. Where no key was kept yet, it is settled now.
    pub fn item(&self) -> String {
        let file = self.folder.path().join("installation");
        if !file.exists() {
            fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
        }
        format!("default@{}", fs::read_to_string(file).unwrap())
    }

    /// How many items of that service there are.
    pub fn items(&self, service: &str) -> usize {
        self.secrets(service).len()
    }

    /// What another program of the same user finds in all items of that service.
    pub fn secrets(&self, service: &str) -> Vec<String> {
        let found =
            Command::new("secret-tool").args(["search", "--all", "--unlock", "service", service]).output().unwrap();
        let said = [found.stdout, found.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        said.lines().filter_map(|line| line.strip_prefix("secret = ").map(str::to_owned)).collect()
    }

    /// Deletes all items of that service, as a person does who tidies up.
    pub fn clear(&self, service: &str) {
        let cleared = Command::new("secret-tool").args(["clear", "service", service]).status().unwrap();
        assert!(cleared.success() && self.secrets(service).is_empty());
    }

    /// Deletes one of them.
    pub fn clear_one(&self, service: &str, user: &str) {
        let cleared = Command::new("secret-tool").args(["clear", "service", service, "username", user]).status();
        assert!(cleared.unwrap().success() && self.look_up(service, user).is_none());
    }

    /// One of them, if there is any.
    pub fn look_up_any(&self, service: &str) -> Option<String> {
        let found = Command::new("secret-tool").args(["lookup", "service", service]).output().unwrap();
        found.status.success().then(|| String::from_utf8(found.stdout).unwrap())
    }

    /// Puts something of another program there.
    pub fn put(&self, service: &str, user: &str, secret: &str) {
        let mut tool = Command::new("secret-tool");
        tool.args(["store", "--label", "theirs", "service", service, "username", user]).stdin(Stdio::piped());
        let mut tool = tool.spawn().expect("secret-tool is needed: apt-get install libsecret-tools");
        tool.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
        assert!(tool.wait().unwrap().success());
    }

    /// Waits for it, and fails when it does not come true.
    pub async fn until(&self, what: &str, ask: impl AsyncFn() -> bool) {
        let asking = async {
            while !ask().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asking)
            .await
            .unwrap_or_else(|_| panic!("waited in vain: {what}"));
    }

    /// Takes the place of the desktop's password dialogs: a prompt is begun, and nobody ever answers it.
    pub async fn silent_prompter(&self) -> Prompts {
        self.prompter(Prompter { begun: Prompts::default(), refuses: false }).await
    }

    /// Takes the place of the desktop's password dialogs: every prompt is refused at once.
    pub async fn refusing_prompter(&self) -> Prompts {
        self.prompter(Prompter { begun: Prompts::default(), refuses: true }).await
    }

    async fn prompter(&self, prompter: Prompter) -> Prompts {
        let begun = prompter.begun.clone();
        self.bus.object_server().at("/org/gnome/keyring/Prompter", prompter).await.unwrap();
        self.bus.request_name("org.gnome.keyring.SystemPrompter").await.unwrap();
        begun
    }
}

/// How many prompts were begun.
#[derive(Clone, Default)]
pub struct Prompts(Arc<AtomicUsize>);

impl Prompts {
    pub fn begun(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

struct Prompter {
    begun: Prompts,
    refuses: bool,
}

#[zbus::interface(name = "org.gnome.keyring.internal.Prompter")]
impl Prompter {
    fn begin_prompting(&self, _callback: OwnedObjectPath) -> zbus::fdo::Result<()> {
        self.begun.0.fetch_add(1, Ordering::SeqCst);
        if self.refuses { Err(zbus::fdo::Error::Failed("refused".into())) } else { Ok(()) }
    }

    fn stop_prompting(&self, _callback: OwnedObjectPath) {}
}

/// The answer of a child that must end.
pub fn wait_for(mut child: Child) {
    let status = within(Duration::from_secs(60), || child.try_wait().unwrap());
    assert!(status.is_some_and(|status| status.success()), "the child ended with {status:?}");
}

/// Moves a file away, and back.
pub fn moved(file: &Path) -> PathBuf {
    let aside = file.with_extension("aside");
    fs::rename(file, &aside).unwrap();
    aside
}
