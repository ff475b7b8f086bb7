//! URL templates: where a value may stand, and what it may hold, so that no value changes where a request goes.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;
use uuid::Uuid;

use super::check;
use crate::error::{Error, Result};

/// Everything but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Longest value of one `{name}`, in bytes before encoding.
const VALUE_BYTES: usize = 1024;

/// Longest template, in bytes.
const TEMPLATE_BYTES: usize = 4096;

/// Where relative templates are tried out while no base URL is known.
const PLACEHOLDER: &str = "https://base.invalid";

/// A URL template: literal text and `{name}` parts. `{key}` and `{id}` are the entry's, `{canonicalId}` is what the server called
/// the thing, all other names are params.
///
/// It begins with `/` and is appended to the base URL (`https://a.com/v1` and `/x/{key}` make `https://a.com/v1/x/…`), or
/// is a complete `https://` URL. Names stand in the path or the query, never in the origin; they are 1 to 64 of
/// `A-Z a-z 0-9 _ -` and begin with a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
    /// Of a complete URL; the others take that of the base URL.
    origin: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Id,
    Key,
    CanonicalId,
    Param(String),
}

impl Template {
    /// Checks a template.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for the field `url`, saying what is wrong and what to write.
    pub fn parse(source: &str) -> Result<Self> {
        Self::checked(source).map_err(|message| Error::config("url", message))
    }

    pub(super) fn checked(source: &str) -> Result<Self, String> {
        check::characters(source)?;
        if source.len() > TEMPLATE_BYTES {
            return Err(format!("is longer than {TEMPLATE_BYTES} bytes"));
        }
        if source.contains('#') {
            return Err("must not have a fragment (`#…`): it is never sent".into());
        }
        let absolute = check::is_absolute(source);
        if !absolute && (!source.starts_with('/') || source.starts_with("//")) {
            return Err("must begin with `/` (it is appended to `baseUrl`) or with `https://`".into());
        }
        if absolute && authority(source).contains(['{', '}']) {
            return Err(
                "has a `{name}` in scheme, host or port: values may only stand in the path and the query".into()
            );
        }
        let parts = split(source)?;
        let mut template = Self { source: source.to_owned(), parts, origin: None };
        template.no_dot_segments()?;
        let sample = template.fill(|_| Ok::<_, String>(Cow::Borrowed("x")))?;
        let url =
            if absolute { check::absolute(&sample)? } else { check::absolute(&format!("{PLACEHOLDER}{sample}"))? };
        template.origin = absolute.then(|| url.origin().ascii_serialization());
        Ok(template)
    }

    /// Stands where a wrong one was given, until that is told.
    pub(super) fn nowhere() -> Self {
        Self { source: String::new(), parts: Vec::new(), origin: None }
    }

    /// The template as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Names of the params that must be given, each once, in order of appearance.
    pub fn params(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for part in &self.parts {
            if let Part::Param(name) = part
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
        }
        names
    }

    /// Whether the entry must have a key.
    pub fn needs_key(&self) -> bool {
        self.parts.contains(&Part::Key)
    }

    /// Whether the server must have given the thing an id.
    pub fn needs_canonical_id(&self) -> bool {
        self.parts.contains(&Part::CanonicalId)
    }

    /// Whether it is appended to the base URL.
    pub fn is_relative(&self) -> bool {
        self.origin.is_none()
    }

    /// Whether these values fit, without needing to know the base URL yet.
    ///
    /// # Errors
    /// As [`Template::expand`], but for a missing base URL.
    pub fn check(&self, key: Option<&str>, params: &BTreeMap<String, String>) -> Result<()> {
        let names = self.params();
        if let Some(extra) = params.keys().find(|given| !names.contains(&given.as_str())) {
            return Err(extra_param(extra, &names));
        }
        self.fits(key, params)
    }

    /// As [`Template::check`], but params that it does not name are left to others.
    pub(super) fn fits(&self, key: Option<&str>, params: &BTreeMap<String, String>) -> Result<()> {
        self.path(Uuid::nil(), key, Some("x"), params).map(drop)
    }

    /// The URL with these values in it, percent-encoded but for unreserved characters.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], naming the value and never showing it, when one is missing, is empty, is `.` or `..`, holds control
    /// characters or is longer than 1024 bytes. [`Error::InvalidConfig`] when the base URL is needed and not known.
    pub fn expand(
        &self,
        base: Option<&Url>,
        id: Uuid,
        key: Option<&str>,
        canonical_id: Option<&str>,
        params: &BTreeMap<String, String>,
    ) -> Result<Url> {
        let path = self.path(id, key, canonical_id, params)?;
        let complete = match (&self.origin, base) {
            (Some(_), _) => path,
            (None, Some(base)) => format!("{}{path}", base.as_str().trim_end_matches('/')),
            (None, None) => {
                return Err(Error::config("baseUrl", "is not known yet, and this endpoint's `url` needs it"));
            }
        };
        Url::parse(&complete)
            .map_err(|error| Error::argument(format!("the URL is not valid with these values ({error})")))
    }

    /// Where it goes: of a complete URL its own origin, else that of the base URL if that is known.
    pub fn origin(&self, base: Option<&Url>) -> Option<String> {
        self.origin.clone().or_else(|| base.map(|base| base.origin().ascii_serialization()))
    }

    fn path(
        &self,
        id: Uuid,
        key: Option<&str>,
        canonical_id: Option<&str>,
        params: &BTreeMap<String, String>,
    ) -> Result<String> {
        self.fill(|part| match part {
            Part::Id => Ok(Cow::Owned(id.to_string())),
            Part::Key => value(
                "the key",
                key.ok_or_else(|| Error::argument("the endpoint's URL has `{key}`: give `options.key`"))?,
            ),
            Part::CanonicalId => value(
                "the canonical id",
                canonical_id.ok_or_else(|| Error::argument("the server has given no id for the thing yet"))?,
            ),
            Part::Param(name) => {
                let given = params.get(name);
                let given = given.ok_or_else(|| {
                    Error::argument(format!("param `{name}` is missing: give it in `options.params`"))
                })?;
                value(&format!("param `{name}`"), given)
            }
            Part::Text(text) => Ok(Cow::Owned(text.clone())),
        })
    }

    fn fill<'a, E>(&'a self, mut value: impl FnMut(&'a Part) -> Result<Cow<'a, str>, E>) -> Result<String, E> {
        let mut filled = String::with_capacity(self.source.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                named => filled.push_str(&value(named)?),
            }
        }
        Ok(filled)
    }

    /// URL parsers resolve `.` and `..` away, and such a URL would not go where it seems to. Values cannot be dots, so only literal segments can.
    fn no_dot_segments(&self) -> Result<(), String> {
        let path = self.source.split('?').next().unwrap_or_default();
        let dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
        if path.split('/').any(dots) { Err("must not have `.` or `..` as a part of its path".into()) } else { Ok(()) }
    }
}

/// What stands between `scheme://` and the path.
fn authority(source: &str) -> &str {
    let rest = source.split_once("://").map_or(source, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default()
}

fn split(source: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some(open) = rest.find(['{', '}']) {
        let (text, braced) = rest.split_at(open);
        let inner = braced.strip_prefix('{').ok_or("has a `}` without a `{` before it")?;
        let (name, after) = inner.split_once('}').ok_or("has a `{` without a `}` after it")?;
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        parts.push(named(name)?);
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

fn named(name: &str) -> Result<Part, String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if !plain || name.len() > 64 || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(format!("has `{{{name}}}`, which is not a name: a letter, then up to 63 of A-Z a-z 0-9 _ -"));
    }
    match name {
        "id" => Ok(Part::Id),
        "key" => Ok(Part::Key),
        "canonicalId" => Ok(Part::CanonicalId),
        _ => {
            let meant = ["id", "key", "canonicalId"].into_iter().find(|known| known.eq_ignore_ascii_case(name));
            meant.map_or_else(
                || Ok(Part::Param(name.to_owned())),
                |meant| Err(format!("has `{{{name}}}`: did you mean `{{{meant}}}`?")),
            )
        }
    }
}

/// A param that no URL of the endpoint names, shown as far as it is harmless.
pub(super) fn extra_param(extra: &str, names: &[&str]) -> Error {
    Error::argument(format!(
        "param `{}` is not in the endpoint's URL, which knows {}",
        extra.chars().filter(|c| !c.is_control()).take(64).collect::<String>(),
        if names.is_empty() { "none".to_owned() } else { format!("`{}`", names.join("`, `")) },
    ))
}

fn value(what: &str, value: &str) -> Result<Cow<'static, str>> {
    let wrong = |why: &str| Err(Error::argument(format!("{what} {why}")));
    if value.is_empty() {
        return wrong("is empty, and it is a part of the URL");
    }
    if value == "." || value == ".." {
        return wrong("is `.` or `..`, which would change where the URL leads");
    }
    if value.len() > VALUE_BYTES {
        return wrong(&format!("is longer than {VALUE_BYTES} bytes, and it is a part of the URL"));
    }
    if value.chars().any(char::is_control) {
        return wrong("holds control characters, and it is a part of the URL");
    }
    let mut encoded = String::with_capacity(value.len());
    // Writing to a String cannot fail.
    let _ = write!(encoded, "{}", utf8_percent_encode(value, ENCODED));
    Ok(Cow::Owned(encoded))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params(given: &[(&str, &str)]) -> BTreeMap<String, String> {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn expand(template: &str, base: Option<&str>, key: Option<&str>, given: &[(&str, &str)]) -> Result<String> {
        let base = base.map(|base| Url::parse(base).unwrap());
        Template::parse(template)?.expand(base.as_ref(), Uuid::nil(), key, Some("c/1"), &params(given)).map(Into::into)
    }

    #[test]
    fn values_are_put_in_and_encoded() {
        let base = Some("https://a.com/v1/");
        let table = [
            ("/x/{key}", Some("https://a.com"), "listing/42", "https://a.com/x/listing%2F42"),
            ("/x/{key}", Some("https://a.com/"), "a", "https://a.com/x/a"),
            ("/x/{key}/y", base, "?#&=+ %", "https://a.com/v1/x/%3F%23%26%3D%2B%20%25/y"),
            ("/x?q={key}&r=1", base, "a&b=c'", "https://a.com/v1/x?q=a%26b%3Dc%27&r=1"),
            ("/", base, "", "https://a.com/v1/"),
            ("/x/{key}", base, "ä/%2e%2e", "https://a.com/v1/x/%C3%A4%2F%252e%252e"),
            ("/x/{key}", base, "...", "https://a.com/v1/x/..."),
            ("/x/.{key}", base, "a-._~", "https://a.com/v1/x/.a-._~"),
            (
                "https://b.com:8443/{key}{key}?i={id}",
                base,
                "k",
                "https://b.com:8443/kk?i=00000000-0000-0000-0000-000000000000",
            ),
            ("http://[::1]:3000/{key}", None, "@evil.com", "http://[::1]:3000/%40evil.com"),
            ("https://b.com?k={key}", None, "k", "https://b.com/?k=k"),
        ];
        for (template, base, key, expected) in table {
            let key = Some(key).filter(|key| !key.is_empty());
            assert_eq!(expand(template, base, key, &[]).unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn templates_that_could_lead_elsewhere_are_refused() {
        let table = [
            "",
            "x/{key}",
            "//evil.com/{key}",
            "/x y",
            "/x\\y",
            "/x#y",
            "/x\n",
            "/%2{key}",
            "/%",
            "/../x",
            "/x/..",
            "/x/%2e%2E/y",
            "/./x",
            "/x{",
            "/x}",
            "/{}",
            "/{ key }",
            "/{a b}",
            "/{{key}}",
            "/{9a}",
            "/{Key}",
            "/{ID}",
            "/{canonicalid}",
            "/{canonicalid}",
            "https://{host}/x",
            "https://a.com:{port}/x",
            "https://a.com{x}",
            "https://{u}@a.com/",
            "https:///{x}",
            "https://?{x}",
            "https://a.com\\{x}",
            "{scheme}://a.com",
            "http://a.com/{key}",
            "https://u:p@a.com/{key}",
            "https://a.com/#{key}",
            "ftp://a.com/{key}",
            "javascript:{key}",
        ];
        for template in table {
            let error = Template::parse(template).expect_err(template);
            assert!(matches!(&error, Error::InvalidConfig { field, .. } if field == "url"), "{template}: {error:?}");
        }
        assert!(Template::parse(&format!("/{}", "x".repeat(TEMPLATE_BYTES))).is_err());
    }

    #[test]
    fn a_template_says_what_it_needs() {
        let template = Template::parse("/{shop}/{key}/{shop}?x={item-2}").unwrap();
        assert_eq!(
            (template.params(), template.needs_key(), template.is_relative()),
            (vec!["shop", "item-2"], true, true)
        );
        assert_eq!(template.origin(None), None);
        assert_eq!(template.origin(Some(&Url::parse("https://a.com:8443/v1").unwrap())).unwrap(), "https://a.com:8443");
        let complete = Template::parse("https://b.com:443/{id}").unwrap();
        assert_eq!((complete.params().len(), complete.needs_key(), complete.is_relative()), (0, false, false));
        assert_eq!(complete.origin(None).unwrap(), "https://b.com");
    }

    #[test]
    fn hostile_values_are_refused_by_name_and_not_shown() {
        let long = "x".repeat(VALUE_BYTES + 1);
        for hostile in ["", ".", "..", "a\0secret", "secret\r\n", "secret\u{85}", &long] {
            let as_param = expand("/{shop}", Some("https://a.com"), None, &[("shop", hostile)]).unwrap_err();
            let as_key = expand("/{key}", Some("https://a.com"), Some(hostile), &[]).unwrap_err();
            assert!(
                as_param.to_string().contains("`shop`") && as_key.to_string().contains("the key"),
                "{as_param} {as_key}"
            );
            for error in [as_param, as_key] {
                assert_eq!(error.code(), "invalid_argument");
                assert!(!error.to_string().contains("secret") && error.to_string().len() < 200, "{error}");
            }
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let base = Some("https://a.com");
        let table =
            [(expand("/{shop}", base, None, &[]), "`shop`"), (expand("/{key}", base, None, &[]), "options.key")];
        let check = |template: &str, given: &[(&str, &str)]| Template::parse(template)?.check(None, &params(given));
        let too_much = [
            (check("/{shop}", &[("shop", "1"), ("extra", "2")]), "`extra`"),
            (check("/x", &[("extra", "2")]), "none"),
            (check("/{shop}", &[("shop", "1"), ("key", "2")]), "`key`"),
        ];
        let missing = table.into_iter().map(|(answer, named)| (answer.unwrap_err(), named));
        for (error, named) in missing.chain(too_much.into_iter().map(|(answer, named)| (answer.unwrap_err(), named))) {
            assert!(error.code() == "invalid_argument" && error.to_string().contains(named), "{error}");
        }
        assert_eq!(expand("/x", None, None, &[]).unwrap_err().code(), "invalid_config");
    }

    #[test]
    fn values_can_be_checked_before_the_base_url_is_known() {
        let template = Template::parse("/{shop}/{key}").unwrap();
        assert!(template.check(Some("k"), &params(&[("shop", "1")])).is_ok());
        assert_eq!(template.check(Some("k"), &params(&[("shop", "..")])).unwrap_err().code(), "invalid_argument");
        assert_eq!(template.check(None, &params(&[("shop", "1")])).unwrap_err().code(), "invalid_argument");
    }

    /// Any text, and texts that a URL parser might take for something else.
    fn values() -> impl Strategy<Value = String> {
        prop_oneof![
            ".{0,40}",
            "[./\\\\%2eE?#@:&]{1,8}",
            prop::sample::select(vec![
                ".",
                "..",
                "%2e%2e",
                "../..",
                "//evil.com",
                "\\\\evil.com",
                "?x#y",
                "u:p@evil.com"
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn templates() -> impl Strategy<Value = (&'static str, usize)> {
        prop::sample::select(vec![
            ("/{a}", 1),
            ("/x/{a}/{key}/y", 4),
            ("/.{a}/{key}.", 2),
            ("/{a}{key}/", 2),
            ("/x?a={a}&k={key}", 1),
            ("https://b.com:8443/{a}/{key}?{a}", 2),
        ])
    }

    proptest! {
        #[test]
        fn no_value_changes_origin_or_number_of_segments((template, segments) in templates(), a in values(), key in values()) {
            let template = Template::parse(template).unwrap();
            let base = Url::parse("https://a.com/v1").unwrap();
            let (key, fixed) = (template.needs_key().then_some(key), if template.is_relative() { 1 } else { 0 });
            let given = params(&[("a", &a)]);
            if let Ok(url) = template.expand(Some(&base), Uuid::nil(), key.as_deref(), None, &given) {
                prop_assert_eq!(url.origin().ascii_serialization(), template.origin(Some(&base)).unwrap());
                prop_assert_eq!(url.path_segments().unwrap().count(), segments + fixed, "{}", url);
                prop_assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None));
                if template.source() == "/{a}" {
                    let sent = url.path_segments().unwrap().next_back().unwrap();
                    prop_assert_eq!(percent_encoding::percent_decode_str(sent).decode_utf8().unwrap(), a);
                }
                prop_assert!(template.check(key.as_deref(), &given).is_ok());
            } else {
                prop_assert!(template.check(key.as_deref(), &given).is_err());
            }
        }
    }
}
