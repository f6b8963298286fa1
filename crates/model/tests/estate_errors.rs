//! What a wrong estate file gets: every error at once, with its place, its line, its cause and what to do.
//! The cases are data; what is shown for each is recorded in `snapshots/`.

use std::path::Path;

use ostler_model::estate::parse;

/// Goes before a case that has no `[estate]` of its own.
const HEAD: &str = "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n";

fn shown(text: &str) -> String {
    match parse("shop.toml", Path::new("/srv/shop"), text) {
        Ok(_) => "(no error)".to_owned(),
        Err(problems) => problems.render(false),
    }
}

fn check(topic: &str, cases: &[(&str, &str)]) {
    let mut out = String::new();
    for (name, text) in cases {
        let text = if text.contains("[estate") { (*text).to_owned() } else { format!("{HEAD}{text}\n") };
        let shown = shown(&text);
        assert_ne!(shown, "(no error)", "{topic}: {name}");
        out.push_str(&format!("=== {name}\n{shown}\n"));
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(topic, out);
    });
}

/// A service `a` with this line in it.
macro_rules! a {
    ($line:literal) => {
        concat!("[service.a]\noffering = \"redis\"\n", $line)
    };
}

#[test]
fn ten_errors_at_once() {
    let text = include_str!("estates/ten-errors.toml");
    let problems = parse("ten-errors.toml", Path::new("/srv/shop"), text).unwrap_err();
    assert_eq!(problems.list.len(), 10, "{problems}");
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("ten-errors", problems);
    });
}

#[test]
fn problems_as_data() {
    let problems = parse("shop.toml", Path::new("/srv/shop"), &format!("{HEAD}[haeal]\n")).unwrap_err();
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("as-data", serde_json::to_string_pretty(&problems.located()).unwrap());
    });
}

#[test]
fn toml() {
    check(
        "toml",
        &[
            ("a key without a value", "[service.a]\noffering"),
            ("a missing value", "[service.a]\noffering ="),
            ("a text without quotes", "[service.a]\noffering = redis"),
            ("an unclosed text", "[service.a]\noffering = \"redis\nplan = \"small\""),
            ("an unclosed list", a!("needs = [\"b\"\n\n[service.b]\noffering = \"redis\"")),
            (
                "a missing comma",
                a!(
                    "needs = [\n  \"b\"\n  \"c\"\n]\n\n[service.b]\noffering = \"redis\"\n\n[service.c]\noffering = \"redis\""
                ),
            ),
            ("an unclosed table", a!("data = { durable = true\n\n[service.b]\noffering = \"redis\"")),
            (
                "an unclosed header",
                "[service.a\noffering = \"redis\"\n\n[service.b]\noffering = \"redis\"\nneeds = [\"a\"]",
            ),
            ("an empty header", "[]\na = 1"),
            ("a key twice", a!("plan = \"small\"\nplan = \"large\"")),
            ("a table twice", a!("\n[service.a]\nplan = \"small\"")),
            ("a key that is a value", a!("data = true\ndata.durable = true")),
            ("a broken escape", a!("plan = \"sm\\qall\"")),
            ("tabs and wide letters before the error", a!("env = {\tNAME\t= \"Ä→漢\",\tB = b }")),
            ("line breaks of Windows", "[service.a]\r\noffering = \"redis\"\r\nplan = 1\r\n"),
            (
                "nested too deep",
                "x = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]",
            ),
            (
                "what cannot be read does not count as missing",
                "[estate\nname = \"shop\"\n\n[provider.here]\nkind = host\n\n[service.a]\noffering redis\nneeds = [\"here\"]",
            ),
            ("no TOML at all", "Dear shop,\nplease sell books.\nYours"),
        ],
    );
}

#[test]
fn tables() {
    check(
        "tables",
        &[
            ("an empty file", "# [estate] is not here\n"),
            ("no estate", "[provider.here]\nkind = \"host\"\n# no [estate]"),
            ("no estate name", "[estate]\ncurrency = \"EUR\"\n\n[provider.here]\nkind = \"host\""),
            ("a wrong estate name", "[estate]\nname = \"My Shop\"\n\n[provider.here]\nkind = \"host\""),
            ("a wrong currency", "[estate]\nname = \"shop\"\ncurrency = \"euro\"\n\n[provider.here]\nkind = \"host\""),
            ("no provider", "[estate]\nname = \"shop\""),
            (
                "a table that is none",
                "service = 1\nheal = \"20%\"\n\n[estate]\nname = \"shop\"\n\n[provider]\nhere = \"host\"",
            ),
            ("an unknown table", "[servce.a]\noffering = \"redis\""),
            ("by itself, and never", "[upgrade]\nsoak = \"8d\"\nby_itself = true\nfreeze = [\"always\"]"),
            (
                "an unknown key of the estate",
                "[estate]\nname = \"shop\"\nmotto = \"fast\"\n\n[provider.here]\nkind = \"host\"",
            ),
            ("no provider kind", "[provider.there]\nregion = \"eu\""),
            ("an unknown provider kind", "[provider.acme]\nkind = \"osbb\""),
            ("a wrong provider name", "[provider.Acme_1]\nkind = \"host\""),
            ("an empty offerings folder", "[provider.there]\nkind = \"host\"\nofferings = \"\""),
            ("a schedule of drills without a window", "[drill]\nevery = \"7d\""),
            ("a fault that there is not", "[drill]\nfaults = [\"kil\", \"hang\", \"hang\"]"),
            ("a drill of nobody", "[drill]\nservices = [\"dbb\"]\n\n[service.db]\noffering = \"redis\""),
            ("a window that is none", "[drill]\nwindow = [\"Sunday night\"]"),
            ("a witness that is no folder", "[audit]\nwitness = \"s3://bucket\"\nevery = \"1s\"\nkey = 1"),
            ("drills without bounds", "[drill]\nlasts = \"1h\"\nvalid = \"1s\"\nat_most = 0\nkeep = -1"),
            ("a wrong share", "[heal]\nat_once = \"0%\""),
            ("a share that is a number", "[heal]\nat_once = 20"),
            ("an unknown occasion", "[notify]\non = [\"faild\"]\ncommand = [\"x\"]"),
            ("no occasion", "[notify]\non = []\ncommand = [\"x\"]"),
            ("nobody to notify", "[[notify]]\non = [\"held\"]"),
            ("two ways to notify", "[notify]\ncommand = [\"x\"]\nwebhook = \"http://127.0.0.1/\""),
            ("a way to notify written wrong", "[notify]\ncomand = [\"x\"]"),
            ("an empty command", "[notify]\ncommand = []"),
            ("a command that is a text", "[notify]\ncommand = \"page-me --loud\""),
            ("an https webhook", "[notify]\nwebhook = \"https://example.org/hook\""),
            ("a webhook that is no address", "[notify]\nwebhook = \"example.org/hook\""),
            ("a webhook with a user", "[notify]\nwebhook = \"http://me:secret@example.org/\""),
        ],
    );
}

#[test]
fn services() {
    check(
        "services",
        &[
            ("a wrong service name", "[service.Web_1]\noffering = \"redis\""),
            ("a service that is no table", "[service]\nweb = \"redis\""),
            ("an offering written wrong", "[service.a]\nofering = \"redis\""),
            ("no offering", "[service.a]\nplan = \"small\""),
            ("a wrong offering name", "[service.a]\noffering = \"PostgreSQL 15\""),
            ("a program without run", "[service.a]\noffering = \"program\""),
            ("an unknown key", a!("verison = \"15\"")),
            ("a key unlike any known", a!("weather = { availability = \"99.9%\" }")),
            ("a wrong version range", a!("version = \"fifteen\"")),
            ("a version that is a number", a!("version = 15")),
            ("a wrong plan name", a!("plan = \"\"")),
            ("an unknown provider", a!("prefer = [\"her\"]")),
            ("a provider twice", a!("prefer = [\"here\", \"here\"]")),
            ("an empty run", a!("run = []")),
            ("a run without a program", a!("run = [\"\", \"--help\"]")),
            ("a run with a number in it", a!("run = [\"./a\", 3]")),
            ("a NUL character", a!("run = [\"./a\\u0000\"]")),
            ("no instances", a!("instances = 0")),
            ("too many instances", a!("instances = 1_000_001")),
            ("a negative number", a!("instances = -1")),
            ("instances as a text", a!("instances = \"2\"")),
            ("an unknown way to listen", a!("listen = \"udp\"")),
            ("an unknown protocol", a!("protocol = \"https\"")),
        ],
    );
}

#[test]
fn needs() {
    check(
        "needs",
        &[
            ("a need that does not exist", a!("needs = [\"bd\"]\n\n[service.db]\noffering = \"postgresql\"")),
            ("a need unlike any service", a!("needs = [\"warehouse\"]\n\n[service.db]\noffering = \"postgresql\"")),
            ("itself", a!("needs = [\"a\"]")),
            ("twice", a!("needs = [\"b\", \"b\"]\n\n[service.b]\noffering = \"redis\"")),
            ("not a name", a!("needs = [\"the db\"]")),
            ("not a list", a!("needs = \"b\"\n\n[service.b]\noffering = \"redis\"")),
            ("a circle of two", a!("needs = [\"b\"]\n\n[service.b]\noffering = \"redis\"\nneeds = [\"a\"]")),
            (
                "two circles",
                a!("needs = [\"b\", \"c\"]\n\n[service.b]\noffering = \"redis\"\nneeds = [\"c\"]\n\n[service.c]\n\
                    offering = \"redis\"\nneeds = [\"a\", \"d\"]\n\n[service.d]\noffering = \"redis\"\nneeds = [\"c\"]"),
            ),
        ],
    );
}

#[test]
fn templates() {
    check(
        "templates",
        &[
            ("unclosed", a!("env = { URL = \"{{ service.name\" }")),
            ("no reference", a!("env = { URL = \"{{ a b }}\" }")),
            ("an unknown reference", a!("env = { URL = \"{{ instance.prot }}\" }")),
            (
                "a need without a field",
                a!("needs = [\"b\"]\nenv = { URL = \"{{ needs.b }}\" }\n\n[service.b]\noffering = \"redis\""),
            ),
            (
                "a need that is not in needs",
                a!("run = [\"./a\", \"{{ needs.b.uri }}\"]\n\n[service.b]\noffering = \"redis\""),
            ),
            (
                "a need written wrong",
                a!(
                    "needs = [\"cache\"]\nbefore = [\"./a\", \"{{ needs.cahce.uri }}\"]\n\n[service.cache]\noffering = \"redis\""
                ),
            ),
            (
                "a field that cannot be",
                a!("needs = [\"b\"]\nenv = { URL = \"{{ needs.b.URI }}\" }\n\n[service.b]\noffering = \"redis\""),
            ),
            ("a version of nothing", a!("env = { RELEASE = \"{{ version }}\" }")),
            ("a version of a program without a path", a!("run = [\"web-{{ version }}\"]")),
            ("two versions in one name", a!("run = [\"releases/{{ version }}-{{ version }}/web\"]")),
            ("a path that leaves its version", a!("run = [\"releases/{{ version }}/../web\", \"{{ version }}\"]")),
            ("a path that is another everywhere", a!("run = [\"{{ instance.id }}/{{ version }}/web\"]")),
            ("a variable that ostler sets", a!("env = { PORT = \"80\", OSTLER_HOME = \"/\" }")),
            ("a variable that cannot be", a!("env = { 2ND-URL = \"x\" }")),
            ("a variable that is a number", a!("env = { WORKERS = 4 }")),
        ],
    );
}

#[test]
fn endpoints() {
    check(
        "endpoints",
        &[
            ("localhost", a!("endpoint = \"localhost:8080\"")),
            ("a host name", a!("endpoint = \"shop.example.org:443\"")),
            ("only a port", a!("endpoint = \"8080\"")),
            ("a number", a!("endpoint = 8080")),
            ("a port after a colon", a!("endpoint = \":8080\"")),
            ("all addresses by a star", a!("endpoint = \"*:8080\"")),
            ("no port", a!("endpoint = \"127.0.0.1\"")),
            ("port 0", a!("endpoint = \"127.0.0.1:0\"")),
            ("a port too large", a!("endpoint = \"127.0.0.1:70000\"")),
            ("IPv6 without brackets", a!("endpoint = \"::1:8080\"")),
            ("neither", a!("endpoint = \"here\"")),
            (
                "the same twice",
                a!("endpoint = \"127.0.0.1:8080\"\n\n[service.b]\noffering = \"redis\"\nendpoint = \"127.0.0.1:8080\""),
            ),
            (
                "every address and one",
                a!("endpoint = \"0.0.0.0:8080\"\n\n[service.b]\noffering = \"redis\"\nendpoint = \"127.0.0.1:8080\""),
            ),
            (
                "one and every address",
                a!("endpoint = \"127.0.0.1:8080\"\n\n[service.b]\noffering = \"redis\"\nendpoint = \"[::]:8080\""),
            ),
        ],
    );
}

/// A table `[failures]` with this line in it.
macro_rules! failures {
    ($line:literal) => {
        concat!("[failures]\n", $line)
    };
}

/// A provider with these terms, beside that of the head.
macro_rules! terms {
    ($terms:literal) => {
        concat!("[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\nterms = ", $terms)
    };
}

/// A broker with these lines, beside the provider of the head.
macro_rules! broker {
    ($lines:literal) => {
        concat!("[estate]\nname = \"shop\"\n\n[provider.acme]\nkind = \"osb\"\n", $lines)
    };
}

#[test]
fn failovers() {
    let wrong = |failover: &str| {
        format!(
            "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n[service.a]\noffering = \"redis\"\nfailover = {failover}"
        )
    };
    let cases = [
        ("no table", "false"),
        ("no truth value", "{ by_itself = \"no\" }"),
        ("no time", "{ loses_at_most = \"little\", keep_old = \"5m\" }"),
        ("an unknown key", "{ looses_at_most = \"5m\" }"),
    ];
    let texts: Vec<(&str, String)> = cases.iter().map(|(what, failover)| (*what, wrong(failover))).collect();
    check("failovers", &texts.iter().map(|(what, text)| (*what, text.as_str())).collect::<Vec<_>>());
}

#[test]
fn outage_costs() {
    let wrong = |cost: &str| {
        format!(
            "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n[service.a]\noffering = \"redis\"\noutage_cost = {cost}"
        )
    };
    let cases = [
        ("no table", "120"),
        ("no amount", "{ per_hour = \"much\" }"),
        ("below nothing", "{ per_hour = -1 }"),
        ("nothing", "{ per_hour = 0 }"),
        ("nothing said", "{}"),
        ("another time", "{ per_day = 100 }"),
    ];
    let texts: Vec<(&str, String)> = cases.iter().map(|(what, cost)| (*what, wrong(cost))).collect();
    check("outage_costs", &texts.iter().map(|(what, text)| (*what, text.as_str())).collect::<Vec<_>>());
}

#[test]
fn service_levels() {
    let wrong = |slo: &str| {
        format!(
            "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n[service.a]\noffering = \"redis\"\nslo = {slo}"
        )
    };
    let cases = [
        ("no objective", "{ over = \"30d\" }"),
        ("too much", "{ availability = \"100%\" }"),
        ("too little", "{ availability = \"0%\", latency_p99 = \"0s\" }"),
        ("no share", "{ availability = \"three nines\" }"),
        ("no time", "{ availability = \"99.9%\", over = \"5m\", latency_p99 = \"2h\" }"),
        ("an unknown key", "{ availabilty = \"99.9%\" }"),
        (
            "exclusions",
            "{ availability = \"99.9%\", exclude = [{ window = \"at night\", reason = \"\" }, { window = \"22:00 - 23:00 Mars/Olympus\" }, { window = \"2027-01-02 - 2026-12-20\", reason = \"x\" }] }",
        ),
    ];
    let texts: Vec<(&str, String)> = cases.iter().map(|(what, slo)| (*what, wrong(slo))).collect();
    check("service-levels", &texts.iter().map(|(what, text)| (*what, text.as_str())).collect::<Vec<_>>());
}

#[test]
fn brokers() {
    check(
        "brokers",
        &[
            ("no address", broker!("")),
            ("no address at all", broker!("url = \"acme\"")),
            ("a password in the address", broker!("url = \"https://shop:hunter2@acme.example\"")),
            ("a query in the address", broker!("url = \"https://acme.example/?token=hunter2\"")),
            ("passwords in the clear", broker!("url = \"http://acme.example\"")),
            (
                "a secret in the file",
                broker!("url = \"https://acme.example\"\nauth = { username = \"shop\", password = \"hunter2\" }"),
            ),
            ("half a login", broker!("url = \"https://acme.example\"\nauth = { username = \"shop\" }")),
            (
                "two places for a secret",
                broker!("url = \"https://acme.example\"\nauth = { token = { env = \"A\", file = \"b\" } }"),
            ),
            (
                "a colon in a user name",
                broker!("url = \"https://acme.example\"\nauth = { username = \"a:b\", password = { env = \"P\" } }"),
            ),
            ("an empty certificate", broker!("url = \"https://acme.example\"\ncertificate = \"\"")),
            (
                "a certificate that is no path",
                broker!("url = \"https://acme.example\"\ncertificate = { file = \"a\" }"),
            ),
            (
                "a certificate of this machine",
                "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\ncertificate = \"here.json\"",
            ),
            (
                "versions of this machine that are no folder",
                "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\nversions = { postgresql = { small = \"16\" } }",
            ),
            (
                "versions of a broker that are a folder",
                broker!("url = \"https://acme.example\"\nversions = \"./versions\""),
            ),
            ("keys of another kind", broker!("url = \"https://acme.example\"\nofferings = \"folder\"")),
            (
                "a host with an address",
                "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\nurl = \"https://acme.example\"",
            ),
            ("no manners", broker!("url = \"https://acme.example\"\nmanners = { at_once = 0, timeout = \"1ms\" }")),
            (
                "a context that says what is ostler's",
                broker!(
                    "url = \"https://acme.example\"\ncontext = { estate = \"x\", platform = \"kubernetes\", a = 1 }"
                ),
            ),
            ("versions of nothing", broker!("url = \"https://acme.example\"\nversions = { postgresql = \"16\" }")),
            ("another API", broker!("url = \"https://acme.example\"\napi = \"2.12\"")),
            (
                "no version",
                broker!("url = \"https://acme.example\"\nversions = { postgresql = { small = \"sixteen\" } }"),
            ),
            (
                "parameters that are no table",
                "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n[service.a]\noffering = \"redis\"\nparameters = 7",
            ),
            (
                "a number that JSON lacks",
                "[estate]\nname = \"shop\"\n\n[provider.here]\nkind = \"host\"\n\n[service.a]\noffering = \"redis\"\nparameters = { a = nan }",
            ),
        ],
    );
}

#[test]
fn failures() {
    check(
        "failures",
        &[
            ("an unknown kind", failures!("crsh = \"60d\"")),
            ("an unknown kind of a service", a!("failures = { power_los = \"60d\", hnag = \"1d\" }")),
            ("a provider's under a service", a!("failures = { outage = \"60d\" }")),
            ("the estate's under a service", a!("[service.a.failures]\npower_loss = \"60d\"")),
            ("a service's under a provider", "[provider.here.failures]\ncrash = \"60d\"\nbefore_fails = \"60d\""),
            ("a region's under a provider", "[provider.here.failures]\nregion_outage = \"60d\""),
            ("not a table", a!("failures = \"often\"")),
            ("a general table that is none", "[[failures]]\ncrash = \"60d\""),
            ("a number", failures!("crash = 60")),
            ("a number for what lasts", failures!("outage = 60")),
            ("a list", failures!("drops = [\"60d\"]")),
            ("not a length of time", failures!("crash = \"nevr\"")),
            ("a year", failures!("crash = \"1y\"")),
            ("months", failures!("outage = { every = \"3 months\", lasts = \"1mo\" }")),
            ("too often", failures!("crash = \"59s\"")),
            ("too rarely", failures!("outage = { every = \"36501d\" }")),
            ("never in a table", failures!("outage = { every = \"never\", lasts = \"1m\" }")),
            ("a table without every", failures!("outage = { lasts = \"1m\" }")),
            ("an unknown key of a rate", failures!("outage = { evry = \"60d\", last = \"1m\" }")),
            ("a moment that lasts", failures!("lose_data = { every = \"60d\", lasts = \"1m\" }")),
            ("lasts as a list", failures!("outage = { every = \"60d\", lasts = [\"1m\", \"2h\"] }")),
            ("lasts too short", failures!("outage = { every = \"60d\", lasts = \"0s - 1m\" }")),
            ("lasts too long", failures!("outage = { every = \"60d\", lasts = \"31d\" }")),
            ("half a range", failures!("outage = { every = \"60d\", lasts = \"1m -\" }")),
            ("a range of what is none", failures!("outage = { every = \"60d\", lasts = \"short - long\" }")),
            ("a range of three", failures!("outage = { every = \"60d\", lasts = \"1m - 2m - 3m\" }")),
            ("a range the wrong way round", failures!("outage = { every = \"60d\", lasts = \"2h - 1m\" }")),
        ],
    );
}

/// A service that needs `db`, with this contract.
macro_rules! contract {
    ($lines:literal) => {
        concat!(
            "[service.db]\noffering = \"redis\"\n\n[service.web]\noffering = \"program\"\nrun = [\"./web\"]\nneeds = [\"db\"]\n\n\
             [[service.web.contract]]\n",
            $lines
        )
    };
}

#[test]
fn contracts() {
    check(
        "contracts",
        &[
            ("nothing in it", contract!("")),
            ("no need of it", contract!("need = \"dbx\"\ntcp = true")),
            ("no way to check", contract!("need = \"db\"")),
            ("two ways to check", contract!("need = \"db\"\ntcp = true\nsql = \"select 1\"\nexpect = \"1\"")),
            ("no range of versions", contract!("need = \"db\"\nversion = \">=fifteen\"")),
            ("a version of nothing", contract!("need = \"dbx\"\nversion = 16\ntcp = 1")),
            ("an answer of a version", contract!("need = \"db\"\nversion = \"16\"\nexpect = \"x\"")),
            ("a check that is none", contract!("need = \"db\"\ntcp = false")),
            ("no answer expected", contract!("need = \"db\"\nredis = [\"PING\"]")),
            ("no path", contract!("need = \"db\"\nhttp = \"healthz\"")),
            ("no way to check AMQP", contract!("need = \"db\"\namqp = \"round-tripp\"")),
            ("neither queue nor exchange", contract!("need = \"db\"\namqp = {}")),
            ("both of AMQP", contract!("need = \"db\"\namqp = { queue = \"a\", exchange = \"b\" }")),
            ("an unknown thing of AMQP", contract!("need = \"db\"\namqp = { qeue = \"a\" }")),
            ("a queue without a name", contract!("need = \"db\"\namqp = { queue = \"\" }")),
            ("no name of a queue", contract!("need = \"db\"\namqp = { queue = \"a\\nb\" }")),
            ("an answer where there is none", contract!("need = \"db\"\namqp = \"round-trip\"\nexpect = \"x\"")),
            ("a status where there is none", contract!("need = \"db\"\ntcp = true\nstatus = 200")),
            (
                "the same twice",
                contract!("need = \"db\"\ntcp = true\n\n[[service.web.contract]]\nneed = \"db\"\ntcp = true"),
            ),
        ],
    );
}

/// A table `[provide]` with these lines.
macro_rules! provide {
    ($lines:literal) => {
        concat!("[provide]\n", $lines)
    };
}

#[test]
fn provide() {
    check(
        "provide",
        &[
            ("nothing in it", provide!("")),
            ("an unknown key", provide!("listen = \"127.0.0.1:8410\"\nbuyers = {}\nbuyer = {}")),
            ("passwords in the clear", provide!("listen = \"10.0.0.5:8410\"\nbuyer.shop.password = { env = \"P\" }")),
            (
                "a secret in the file",
                provide!("listen = \"127.0.0.1:8410\"\nbuyer = { shop = { password = \"hunter2\" } }"),
            ),
            (
                "a buyer without a password, and one with a colon",
                provide!(
                    "listen = \"127.0.0.1:8410\"\nbuyer = { shop = {}, \"a:b\" = { password = { env = \"P\" } } }"
                ),
            ),
            (
                "half a certificate",
                provide!("listen = \"127.0.0.1:8410\"\ntls = { key = \"k\" }\nbuyer.shop.password = { env = \"P\" }"),
            ),
            (
                "no range of ports",
                provide!(
                    "listen = \"127.0.0.1:8410\"\nendpoints = \"127.0.0.1\"\nbuyer.shop.password = { env = \"P\" }"
                ),
            ),
            (
                "nowhere to connect to",
                provide!(
                    "listen = \"127.0.0.1:8410\"\nendpoints = \"0.0.0.0:1-2\"\nbuyer.shop.password = { env = \"P\" }"
                ),
            ),
            (
                "prices and numbers",
                provide!(
                    "listen = \"127.0.0.1:8410\"\nat_most = 0\nbindings_last = \"1s\"\nprice = { redis = { cache = \"1,50\" } }\nbuyer.shop.password = { env = \"P\" }"
                ),
            ),
            (
                "nothing to sell",
                "[estate]\nname = \"shop\"\n\n[provider.acme]\nkind = \"osb\"\nurl = \"https://acme.example\"\n\n\
                 [provide]\nlisten = \"127.0.0.1:8410\"\nbuyer.shop.password = { env = \"P\" }",
            ),
            (
                "a name that is kept",
                "[service.sold-db]\noffering = \"redis\"\n\n[service.guest-1]\noffering = \"redis\"",
            ),
        ],
    );
}

#[test]
fn terms() {
    check(
        "terms",
        &[
            ("not a table", terms!("\"99.95%\"")),
            ("nothing promised", terms!("{}")),
            ("an unknown key", terms!("{ availabilty = \"99.95%\" }")),
            ("a number", terms!("{ availability = 99.95 }")),
            ("no percent sign", terms!("{ availability = \"0.9995\" }")),
            ("too many decimals", terms!("{ availability = \"99.99999%\" }")),
            ("a comma", terms!("{ availability = \"99,95%\" }")),
            ("more than the whole", terms!("{ availability = \"100.0001%\" }")),
            ("no availability at all", terms!("{ availability = \"0%\" }")),
            ("credits that are no list", terms!("{ credits = { below = \"99%\", refund = \"10%\" } }")),
            ("a credit that is no table", terms!("{ credits = [\"10%\"] }")),
            ("half a credit", terms!("{ credits = [{ below = \"99%\" }, { refund = \"10%\" }] }")),
            ("a credit written wrong", terms!("{ credits = [{ bellow = \"99%\", refnd = \"10%\" }] }")),
            (
                "an outage that counts never",
                terms!("{ availability = \"99%\", outage = { from = \"2d\", step = \"0s\", failed = \"0%\" } }"),
            ),
            ("a whole that is none", terms!("{ availability = \"99%\", over = \"monht\" }")),
            ("maintenance at any time", terms!("{ availability = \"99%\", maintenance = { at_most = \"4h\" } }")),
            ("a zone that is none", terms!("{ availability = \"99%\", zone = \"Mars/Base\" }")),
            (
                "a claim at no time",
                terms!(
                    "{ availability = \"99%\", claim = { within = \"1 year\", at_least = \"-1\", at_most = \"0%\" } }"
                ),
            ),
            ("a refund of more than was paid", terms!("{ credits = [{ below = \"99%\", refund = \"110%\" }] }")),
            ("below nothing", terms!("{ credits = [{ below = \"0.0%\", refund = \"100%\" }] }")),
            (
                "the same bound twice",
                terms!(
                    "{ credits = [{ below = \"99%\", refund = \"5%\" }, { below = \"99.00%\", refund = \"10%\" }] }"
                ),
            ),
            (
                "refunds that fall",
                terms!(
                    "{ credits = [{ below = \"90%\", refund = \"7%\" }, { below = \"99%\", refund = \"5%\" }, \
                     { below = \"99.9%\", refund = \"10%\" }] }"
                ),
            ),
        ],
    );
}

/// What `[estate]` says of money, and a provider beside that of the head.
macro_rules! money {
    ($estate:literal, $provider:literal) => {
        concat!("[estate]\nname = \"shop\"\n", $estate, "\n\n[provider.here]\nkind = \"host\"\n", $provider)
    };
}

#[test]
fn money() {
    check(
        "money",
        &[
            ("a budget that is no table", money!("budget = 400", "")),
            ("a budget without a figure", money!("budget = {}", "")),
            ("a budget of nothing", money!("budget = { monthly = 0 }", "")),
            ("a budget with a comma", money!("budget = { monthly = \"400,50\" }", "")),
            ("a negative budget", money!("budget = { monthly = -1 }", "")),
            ("a budget in hexadecimal digits", money!("budget = { monthly = 0x10 }", "")),
            ("a rate of no currency", money!("rates = { dollar = \"0.92\" }", "")),
            ("a rate of the estate's own currency", money!("rates = { EUR = \"1\" }", "")),
            ("a rate of nothing", money!("rates = { USD = 0 }", "")),
            ("no time zone", money!("zone = \"Berlin\"", "")),
            ("a price that is none", money!("", "terms = { prices = { redis = { cache = \"cheap\" } } }")),
            (
                "a price for nothing known",
                money!("", "terms = { prices = { redis = { cache = { amount = 1, per = \"moth\" } } } }"),
            ),
            (
                "a price without an amount",
                money!("", "terms = { prices = { redis = { cache = { per = \"hour\" } } } }"),
            ),
            ("no prices at all", money!("", "terms = { prices = { redis = { cache = [] } } }")),
            (
                "currencies that are mixed",
                money!(
                    "rates = { GBP = 1.15 }",
                    "terms = { prices = { redis = { cache = { amount = 9, currency = \"USD\" } } } }"
                ),
            ),
            ("a machine that costs nothing known", money!("", "cost = {}")),
            ("half of what a machine costs", money!("", "cost = { purchase = 2400, kwh = 0.3, care = 1 }")),
            ("no years of use", money!("", "cost = { purchase = 2400, years = 0 }")),
            (
                "somebody else's machine",
                money!(
                    "",
                    "[provider.acme]\nkind = \"osb\"\nurl = \"https://a.example\"\nauth = { username = \"u\", password = { env = \"P\" } }\ncost = { watts = 1, kwh = 1 }"
                ),
            ),
            ("backups that are priced wrong", money!("", "[backups]\ngb_month = \"2 cents\"")),
        ],
    );
}

#[test]
fn policies() {
    check(
        "policies",
        &[
            ("an unknown probe key", a!("probe = { evry = \"1s\" }")),
            ("an unknown check", a!("probe = { ready = \"postgres\" }")),
            ("a check that only a path makes whole", a!("probe = { ready = \"http\" }")),
            ("a check of an unknown kind", a!("probe = { ready = { htp = \"/\" } }")),
            ("a check of two kinds", a!("probe = { ready = { http = \"/\", command = [\"x\"] } }")),
            ("a check of no kind", a!("probe = { deep = {} }")),
            ("a check that is a number", a!("probe = { ready = 1 }")),
            ("a path without a slash", a!("probe = { ready = { http = \"readyz\" } }")),
            ("a path with a line break", a!("probe = { ready = { http = \"/a\\r\\nHost: b\" } }")),
            ("an empty check command", a!("probe = { ready = { command = [] } }")),
            ("not a length of time", a!("probe = { every = \"often\" }")),
            ("a length of time without a unit", a!("probe = { every = 1 }")),
            ("probes too often", a!("probe = { every = \"1ms\" }")),
            ("a timeout too long", a!("probe = { timeout = \"2m\" }")),
            ("a timeout longer than the interval", a!("probe = { every = \"1s\", timeout = \"1500ms\" }")),
            ("backups too often", a!("data = { backup_every = \"1s\" }")),
            ("a length of time in months", a!("data = { backup_every = \"1mo\" }")),
            ("durable as a text", a!("data = { durable = \"yes\" }")),
            ("data as a text", a!("data = \"durable\"")),
            ("memory without a unit", a!("limits = { memory = \"512\" }")),
            ("memory too small", a!("limits = { memory = 512 }")),
            ("memory too large", a!("limits = { memory = \"99999999999TiB\" }")),
            ("no cores", a!("limits = { cpu = 0 }")),
            ("cores as a text", a!("limits = { cpu = \"half\" }")),
            ("cores that are no number", a!("limits = { cpu = nan }")),
            ("no processes", a!("limits = { processes = 0 }")),
            ("too few files", a!("limits = { files = 1 }")),
            ("a drain too long", a!("stop = { drain = \"48h\" }")),
        ],
    );
}

/// `[backups]` with these lines in it.
macro_rules! backups {
    ($lines:literal) => {
        concat!("[backups]\n", $lines)
    };
}

#[test]
fn backups() {
    check(
        "backups",
        &[
            ("an unknown key", backups!("path = \"./elsewhere\"")),
            ("an unknown place", backups!("to = \"ftp://elsewhere/x\"")),
            ("no bucket", backups!("to = \"s3:///x\"\nregion = \"eu\"")),
            ("an odd prefix", backups!("to = \"s3://shops/a/../b\"\nregion = \"eu\"")),
            ("nowhere", backups!("to = \"s3://shops\"\ncredentials = {}")),
            ("nobody", backups!("to = \"s3://shops\"\nregion = \"eu\"")),
            (
                "secrets in the file",
                backups!(
                    "to = \"s3://shops\"\nregion = \"eu\"\ncredentials = { key_id = \"AKIA\", secret_key = \"hunter2\" }"
                ),
            ),
            (
                "in the clear",
                backups!(
                    "to = \"s3://shops\"\nendpoint = \"http://10.0.0.7:9000\"\n\
                     credentials = { key_id = { env = \"A\" }, secret_key = { env = \"B\" } }"
                ),
            ),
            (
                "a password in the address",
                backups!(
                    "to = \"s3://shops\"\nendpoint = \"https://me:hunter2@s3.example\"\n\
                     credentials = { key_id = { env = \"A\" }, secret_key = { env = \"B\" } }"
                ),
            ),
            ("a bucket's keys for a folder", backups!("to = \"./elsewhere\"\nregion = \"eu\"\nplaintext = true")),
            ("kept for too long", backups!("keep = { all = \"30d\", weekly = \"for ever\" }")),
            ("proofs of too many", a!("data = { backup_every = \"1h\", prove_every = \"1s\" }")),
            ("proofs sometimes", a!("data = { prove_every = \"sometimes\" }")),
        ],
    );
}
