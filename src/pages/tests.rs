//! The page that is configured as `me`.

use super::*;

fn rotated(page: &Page) -> Arc<Loaded> {
    Arc::new(Loaded::new(vec![Page { access_token: "another".into(), ..page.clone() }]).unwrap())
}

#[test]
fn the_page_me_is_known_by_its_real_id_as_long_as_its_token_is_the_same() {
    let pages = Pages::load(Source::Single(Box::new(Page::sample(PAGE_ID_ME)))).unwrap();
    let nameless = pages.nameless().unwrap();
    assert!(pages.get("7").is_none());
    assert_eq!(pages.nameless_error().reason, Reason::GraphUnavailable);
    pages.note_nameless(SendError::new(Reason::PageTokenInvalid, "x"));
    assert_eq!(pages.nameless_error().reason, Reason::PageTokenInvalid);
    pages.learn(&nameless, "7");
    assert!(pages.nameless().is_none());
    let ids = |pages: &Pages| ["me", "7", "8"].map(|id| pages.get(id).map(|page| page.id.clone()));
    assert_eq!(ids(&pages), [Some("7".to_owned()), Some("7".to_owned()), None]);
    assert_eq!(pages.list()[0].id, "7");
    // Read again, with another title.
    let renamed = Page { title: "Shop".into(), ..nameless.as_ref().clone() };
    pages.loaded.replace(Arc::new(Loaded::new(vec![renamed]).unwrap()));
    let page = pages.get("7").unwrap();
    assert_eq!((page.id.as_str(), page.title.as_str()), ("7", "Shop"));
    // A stand-in for Graph may know the page by no other name.
    pages.learn(&nameless, PAGE_ID_ME);
    assert!(pages.nameless().is_none());
    pages.loaded.replace(rotated(&nameless));
    assert_eq!(ids(&pages), [Some("me".to_owned()), None, None]);
    assert!(pages.nameless().is_some());
}
