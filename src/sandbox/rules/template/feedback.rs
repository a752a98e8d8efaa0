//! The customer feedback and customer information templates.

use super::super::field::{Field, Verdict};
use super::check_texts;

/// Characters of a feedback template's texts; a link is allowed in none of them.
const TEXTS: [(&str, usize); 3] = [("title", 65), ("subtitle", 80), ("button_title", 20)];

/// Characters of a question's id and title.
const MAX_QUESTION_ID: usize = 80;
const MIN_QUESTION_TITLE: usize = 5;
const MAX_QUESTION_TITLE: usize = 85;

/// Characters of a follow-up's placeholder.
const MAX_PLACEHOLDER: usize = 65;

pub(super) fn check_feedback(payload: &Field<'_>) -> Verdict {
    payload.required("title")?.text()?;
    for (key, most) in TEXTS {
        let Some(field) = payload.get(key) else {
            continue;
        };
        if field.text_up_to(most)?.contains("://") {
            return Err(field.error("must not contain a URL"));
        }
    }
    for screen in payload.required("feedback_screens")?.items(1, 1)? {
        screen.required("questions")?.items(1, 1)?.iter().try_for_each(check_question)?;
    }
    check_privacy(payload)?;
    check_expiry(payload)
}

fn check_question(question: &Field<'_>) -> Verdict {
    let id = question.required("id")?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !id.text_up_to(MAX_QUESTION_ID)?.bytes().all(is_word) {
        return Err(id.error("must consist of letters, digits and _"));
    }
    let kind = question.required("type")?.one_of(&["csat", "nps", "ces", "free_form"])?;
    if let Some(title) = question.get("title")
        && title.text_up_to(MAX_QUESTION_TITLE)?.chars().count() < MIN_QUESTION_TITLE
    {
        return Err(title.error(&format!("must have at least {MIN_QUESTION_TITLE} characters")));
    }
    if let Some(label) = question.get("score_label") {
        label.one_of(&["neg_pos", "hard_easy", "dis_sat", "unlike_like", "poor_great", "none"])?;
    }
    if let Some(option) = question.get("score_option") {
        let allowed: &[&str] = match kind {
            // The page writes the first both ways.
            "csat" => &["one_to_five", "1_to_5", "five_stars", "five_emojis"],
            "nps" => &["zero_to_ten"],
            "ces" => &["one_to_seven"],
            _ => &[],
        };
        option.one_of(allowed)?;
    }
    if let Some(follow_up) = question.get("follow_up") {
        follow_up.required("type")?.one_of(&["free_form"])?;
        check_texts(&follow_up, &[("placeholder", MAX_PLACEHOLDER)])?;
    }
    Ok(())
}

pub(super) fn check_information(payload: &Field<'_>) -> Verdict {
    check_privacy(payload)?;
    if let Some(countries) = payload.get("countries") {
        for country in countries.items(1, usize::MAX)? {
            if country.text()?.chars().count() != 2 {
                return Err(country.error("must have two letters"));
            }
        }
    }
    if let Some(purpose) = payload.get("purpose") {
        purpose.one_of(&["SHIPPING"])?;
    }
    check_expiry(payload)
}

fn check_privacy(payload: &Field<'_>) -> Verdict {
    let privacy = payload.required("business_privacy")?;
    privacy.object()?;
    privacy.required("url")?.url().map(drop)
}

fn check_expiry(payload: &Field<'_>) -> Verdict {
    match payload.get("expires_in_days") {
        Some(days) => days.whole_number(1, 7),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::tests::{accepted, refused};
    use super::super::tests::{changed, template};

    #[test]
    fn customer_feedback() {
        let question = json!({"id": "q_1", "type": "csat", "title": "How was it?", "score_label": "neg_pos",
            "score_option": "five_stars", "follow_up": {"type": "free_form", "placeholder": "More"}});
        let good = json!({"template_type": "customer_feedback", "title": "Rate us", "subtitle": "Please", "button_title": "Rate",
            "feedback_screens": [{"questions": [question]}],
            "business_privacy": {"url": "https://a.example"}, "expires_in_days": 3});
        accepted(&template(good.clone()));
        let mut tagged = template(good.clone());
        tagged["messaging_type"] = json!("MESSAGE_TAG");
        tagged["tag"] = json!("CUSTOMER_FEEDBACK");
        accepted(&tagged);
        let with_question = |key: &str, value: Value| {
            let mut changed = question.clone();
            changed[key] = value;
            json!({"feedback_screens": [{"questions": [changed]}]})
        };
        for (changes, text) in [
            (json!({"title": "a".repeat(66)}), "equal to 65"),
            (json!({"subtitle": "see https://a.example"}), "must not contain a URL"),
            (json!({"business_privacy": {}}), "[business_privacy][url] is required"),
            (json!({"expires_in_days": 8}), "from 1 to 7"),
            (json!({"feedback_screens": [{"questions": [question, question]}]}), "too many"),
            (with_question("id", json!("q 1")), "letters, digits and _"),
            (with_question("type", json!("stars")), "must be one of"),
            (with_question("title", json!("Hm?")), "at least 5"),
            (with_question("score_option", json!("zero_to_ten")), "must be one of"),
        ] {
            refused(&changed(&good, &changes), 100, None, text);
        }
    }

    #[test]
    fn customer_information() {
        let information = json!({"template_type": "customer_information", "countries": ["US"], "business_privacy": {"url": "https://a.example"}});
        accepted(&template(information.clone()));
        refused(&changed(&information, &json!({"countries": ["USA"]})), 100, None, "two letters");
        refused(&changed(&information, &json!({"business_privacy": null})), 100, None, "required");
    }
}
