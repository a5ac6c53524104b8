//! When does a text that may be left out say anything?

/// The value of an optional text. MetalLB's own objects cannot tell an empty text from an absent one, so neither do we.
pub fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}
