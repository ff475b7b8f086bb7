//! Endpoints that tell create, update and delete apart, and what goes with them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Ack, CanonicalId, Config, Endpoint, OnConflict, Preconditions, Retention, Route, Settings};
use crate::{
    entry::{Action, Queue},
    error::{Error, Result},
};

fn settings(config: Value) -> Result<Settings> {
    Settings::new(Config::from_json(config)?, Vec::new())
}

fn wrong_field(config: Value) -> String {
    match settings(config.clone()) {
        Err(Error::InvalidConfig { field, message }) => {
            assert!(!message.is_empty());
            field
        }
        other => panic!("{config} answered {other:?}"),
    }
}

/// An endpoint `form` of one request that works, with these fields put over it.
fn form(over: Value) -> Value {
    over_fields(json!({ "method": "PUT", "url": "https://a.com/{key}" }), over)
}

/// An endpoint `form` of three requests that works, with these fields put over it; null takes one away.
fn each(over: Value) -> Value {
    let whole = json!({
        "create": { "method": "POST", "url": "/listings" },
        "update": { "method": "PUT", "url": "/listings/{canonicalId}" },
        "delete": { "method": "DELETE", "url": "/listings/{canonicalId}" },
        "ack": { "id": "/data/id", "status": [200, 201] }
    });
    over_fields(whole, over)
}

/// An endpoint `form` for files that works, with these fields put over it.
fn file(over: Value) -> Value {
    over_fields(json!({ "method": "POST", "url": "/files", "body": "tus" }), over)
}

fn over_fields(mut endpoint: Value, over: Value) -> Value {
    endpoint.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
    endpoint.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    json!({ "endpoints": { "form": endpoint } })
}

fn params(given: &[&str]) -> BTreeMap<String, String> {
    given.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect()
}

#[test]
fn each_action_has_its_own_request() {
    let settings = settings(each(json!({}))).unwrap();
    let endpoint = settings.endpoint("form").unwrap();
    let request = |action| {
        let (method, url, _) = endpoint.route(action).unwrap();
        (method.to_owned(), url.source().to_owned())
    };
    assert_eq!(request(Action::Create), ("POST".into(), "/listings".into()));
    assert_eq!(request(Action::Update), ("PUT".into(), "/listings/{canonicalId}".into()));
    assert_eq!(request(Action::Delete), ("DELETE".into(), "/listings/{canonicalId}".into()));
    assert!(endpoint.creates() && endpoint.gives_id());
    // PUT is what changes it, and of changes only the newest matters.
    assert_eq!(endpoint.queue, Queue::Latest);
}

#[test]
fn a_create_must_bring_the_id_an_update_may_and_a_delete_need_not_be_described() {
    let settings = settings(each(json!({}))).unwrap();
    let endpoint = settings.endpoint("form").unwrap();
    let ack = |action| endpoint.route(action).unwrap().2;
    assert!(ack(Action::Create).asks_for_id());
    let update = ack(Action::Update);
    assert!(!update.asks_for_id());
    assert_eq!((update.id, update.status), (CanonicalId::Pointer("/data/id".into()), vec![200, 201]));
    assert_eq!(ack(Action::Delete), Ack::default());
}

#[test]
fn a_request_with_a_proof_of_its_own_is_proved_by_that() {
    let route = |ack: Value| json!({ "method": "PUT", "url": "/listings/{canonicalId}", "ack": ack });
    let config =
        each(json!({ "update": route(json!({ "id": "location" })), "delete": route(json!({ "json": true })) }));
    let settings = settings(config).unwrap();
    let endpoint = settings.endpoint("form").unwrap();
    let ack = |action| endpoint.route(action).unwrap().2;
    assert!(ack(Action::Update).asks_for_id());
    assert_eq!(ack(Action::Update), Ack::default().location());
    assert_eq!(ack(Action::Delete), Ack::default().json());
}

#[test]
fn one_request_serves_create_and_update_alike_and_can_have_a_delete() {
    let settings = settings(form(json!({ "ack": { "id": "/id" } }))).unwrap();
    let endpoint = settings.endpoint("form").unwrap();
    for action in [Action::Create, Action::Update] {
        let (method, _, ack) = endpoint.route(action).unwrap();
        assert!(method == "PUT" && ack.asks_for_id());
    }
    assert!(endpoint.route(Action::Delete).is_none() && !endpoint.creates());
    let made = Endpoint::new("form", "PUT", "/{key}").delete(Route::new("DELETE", "/{canonicalId}"));
    let settings = Settings::new(Config::default(), vec![made]).unwrap();
    assert!(settings.endpoint("form").unwrap().route(Action::Delete).is_some());
}

#[test]
fn params_must_fit_every_request_that_the_entry_may_become() {
    let config = each(json!({
        "create": { "method": "POST", "url": "/shops/{shop}/listings" },
        "update": { "method": "PUT", "url": "/listings/{canonicalId}?by={user}" } }));
    let settings = settings(config).unwrap();
    let endpoint = settings.endpoint("form").unwrap();
    let check = |action, given: &[&str]| endpoint.check_values(action, None, &params(given)).map_err(|e| e.to_string());
    assert!(check(None, &["shop", "user"]).is_ok());
    assert!(check(None, &["shop"]).unwrap_err().contains("`user`"));
    assert!(check(None, &["shop", "user", "other"]).unwrap_err().contains("`other`"));
    assert!(check(Some(Action::Delete), &[]).is_ok());
}

#[test]
fn every_new_field_arrives_where_it_belongs() {
    let settings = settings(form(json!({
        "onConflict": "overwrite", "idempotent": true, "preconditions": "etag", "payloadVersion": 3 })))
    .unwrap();
    let endpoint = settings.endpoint("form").unwrap();
    assert_eq!((endpoint.on_conflict, endpoint.idempotent), (OnConflict::Overwrite, true));
    assert_eq!((endpoint.preconditions, endpoint.payload_version), (Some(Preconditions::Etag), 3));
    let plain = Endpoint::new("form", "PUT", "/{key}");
    assert_eq!((plain.on_conflict, plain.idempotent), (OnConflict::Newest, false));
    assert_eq!((plain.preconditions, plain.payload_version), (None, 0));
}

#[test]
fn retention_has_documented_defaults_and_bounds() {
    assert_eq!(settings(json!({})).unwrap().retention, Retention::default());
    let written = json!({ "retention": {
        "settled": 5, "settledDays": 1, "lostDays": 2, "lanesDays": 3, "mappingsDays": 4, "tombstonesDays": 6 } });
    let kept = settings(written).unwrap().retention;
    assert_eq!((kept.settled, kept.settled_days, kept.lost_days), (5, 1, 2));
    assert_eq!((kept.lanes_days, kept.mappings_days, kept.tombstones_days), (3, 4, 6));
}

#[test]
fn a_wrong_route_names_the_field() {
    let create = |url: &str| json!({ "method": "POST", "url": url });
    let table = [
        (each(json!({ "update": null })), "endpoints.form.update"),
        (each(json!({ "create": null })), "endpoints.form.create"),
        (each(json!({ "method": "PUT" })), "endpoints.form.method"),
        (each(json!({ "url": "/x" })), "endpoints.form.method"),
        (each(json!({ "create": { "url": "/x" } })), "endpoints.form.create.method"),
        (each(json!({ "create": { "method": "POST" } })), "endpoints.form.create.url"),
        (each(json!({ "create": { "method": "POST", "url": "/x", "body": "raw" } })), "endpoints.form.create.body"),
        (each(json!({ "update": { "method": "GET", "url": "/x" } })), "endpoints.form.update.method"),
        (each(json!({ "update": { "method": "PUT", "url": "x" } })), "endpoints.form.update.url"),
        (each(json!({ "delete": { "method": "DELETE", "url": "/{a b}" } })), "endpoints.form.delete.url"),
        (each(json!({ "create": create("/listings/{canonicalId}") })), "endpoints.form.create.url"),
        (each(json!({ "create": create("https://elsewhere.com/listings") })), "endpoints.form.create.url"),
        (each(json!({ "delete": create("https://elsewhere.com/listings") })), "endpoints.form.delete.url"),
        (each(json!({ "ack": {} })), "endpoints.form.ack.id"),
        (
            each(json!({ "create": { "method": "POST", "url": "/x", "ack": { "status": [404] } } })),
            "endpoints.form.create.ack.status",
        ),
        (
            each(json!({ "update": { "method": "PUT", "url": "/x", "ack": { "id": "id" } } })),
            "endpoints.form.update.ack.id",
        ),
        (form(json!({ "url": "/x/{canonicalId}" })), "endpoints.form.url"),
        (form(json!({ "delete": { "method": "DELETE", "url": "/{key}" } })), "endpoints.form.delete.url"),
    ];
    for (config, field) in table {
        assert_eq!(wrong_field(config.clone()), field, "{config}");
    }
}

#[test]
fn a_wrong_choice_names_the_field() {
    let table = [
        (form(json!({ "onConflict": "last" })), "endpoints.form.onConflict"),
        (form(json!({ "onConflict": "overwrite" })), "endpoints.form.onConflict"),
        (form(json!({ "idempotent": "yes" })), "endpoints.form.idempotent"),
        (form(json!({ "preconditions": "weak" })), "endpoints.form.preconditions"),
        (form(json!({ "preconditions": true })), "endpoints.form.preconditions"),
        (form(json!({ "payloadVersion": -1 })), "endpoints.form.payloadVersion"),
        (form(json!({ "body": "raw", "payloadVersion": 1 })), "endpoints.form.payloadVersion"),
        (json!({ "retention": { "settledHours": 1 } }), "retention.settledHours"),
        (json!({ "retention": { "settled": 1_000_001 } }), "retention.settled"),
        (json!({ "retention": { "settledDays": -1 } }), "retention.settledDays"),
        (json!({ "retention": { "lostDays": 36_501 } }), "retention.lostDays"),
        (json!({ "retention": { "mappingsDays": 36_501 } }), "retention.mappingsDays"),
        (json!({ "retention": { "tombstonesDays": 36_501 } }), "retention.tombstonesDays"),
        (json!({ "retention": { "lanesDays": 36_501 } }), "retention.lanesDays"),
        (json!({ "retention": { "lanesDays": 30 } }), "retention.lanesDays"),
    ];
    for (config, field) in table {
        assert_eq!(wrong_field(config.clone()), field, "{config}");
    }
}

#[test]
fn files_have_forms_of_their_own() {
    use super::Body;
    let file = |over: Value| settings(file(over)).unwrap().endpoint("form").unwrap().clone();
    let plain = file(json!({}));
    assert_eq!((plain.body, plain.part.as_str(), plain.digest), (Body::Tus, "file", false));
    let tus = file(json!({ "digest": true, "ack": { "id": "location", "digest": true } }));
    assert!(tus.digest && tus.ack.digest && tus.gives_id());
    let form = file(json!({ "method": "PUT", "body": "multipart", "part": "photos[]" }));
    assert_eq!((form.body, form.part.as_str()), (Body::Multipart, "photos[]"));
    let made = Endpoint::new("form", "POST", "/x").body(Body::Multipart).part("photo");
    assert_eq!(Settings::new(Config::default(), vec![made]).unwrap().endpoint("form").unwrap().part, "photo");
}

#[test]
fn what_does_not_fit_the_form_of_a_file_names_the_field() {
    let routes = json!({
        "method": null, "url": null, "create": { "method": "POST", "url": "/x" }, "update": { "method": "POST", "url": "/x" } });
    let table = [
        (file(json!({ "method": "PUT" })), "endpoints.form.method"),
        (file(routes), "endpoints.form.create"),
        (file(json!({ "ack": { "status": [201] } })), "endpoints.form.ack.status"),
        (file(json!({ "ack": { "json": true } })), "endpoints.form.ack.json"),
        (file(json!({ "ack": { "id": "/id" } })), "endpoints.form.ack.id"),
        (file(json!({ "ack": { "digest": true } })), "endpoints.form.ack.digest"),
        (file(json!({ "digest": "sha-256" })), "endpoints.form.digest"),
        (file(json!({ "part": "photo" })), "endpoints.form.part"),
        (file(json!({ "payloadVersion": 1 })), "endpoints.form.payloadVersion"),
        (file(json!({ "body": "multipart", "part": "" })), "endpoints.form.part"),
        (file(json!({ "body": "multipart", "part": "a\"b" })), "endpoints.form.part"),
        (file(json!({ "body": "multipart", "part": 5 })), "endpoints.form.part"),
        (file(json!({ "body": "multipart", "digest": true })), "endpoints.form.digest"),
        (file(json!({ "body": "files" })), "endpoints.form.body"),
    ];
    for (config, field) in table {
        assert_eq!(wrong_field(config.clone()), field, "{config}");
    }
}

#[test]
fn routes_made_in_rust_are_checked_alike() {
    let good = || Endpoint::each("form", Route::new("post", "/x"), Route::new("PUT", "/x/{canonicalId}"));
    let id = || Ack::default().pointer("/id");
    let table = [
        (good(), "endpoints.form.ack.id"),
        (Endpoint::each("form", Route::new("GET", "/x"), Route::new("PUT", "/x")), "endpoints.form.create.method"),
        (Endpoint::each("form", Route::new("POST", "/x"), Route::new("PUT", "x")), "endpoints.form.update.url"),
        (good().ack(id()).delete(Route::new("DELETE", "")), "endpoints.form.delete.url"),
        (good().ack(id()).on_conflict(OnConflict::Overwrite), "endpoints.form.onConflict"),
        (
            good().ack(id()).delete(Route::new("DELETE", "/x").ack(Ack::default().status(99))),
            "endpoints.form.delete.ack.status",
        ),
    ];
    for (endpoint, expected) in table {
        let Err(Error::InvalidConfig { field, .. }) = Settings::new(Config::default(), vec![endpoint]) else {
            panic!("{expected}")
        };
        assert_eq!(field, expected);
    }
    let overwrites = good().ack(id()).on_conflict(OnConflict::Overwrite).idempotent();
    assert!(Settings::new(Config::default(), vec![overwrites]).is_ok());
}
