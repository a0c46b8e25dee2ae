//! What programs may want to know of an event, by name. A list, for a map takes ten times the memory
//! of the two or three entries that it would have here, and a thousand events are kept.

use std::borrow::Cow;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Values by name; in JSON an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Box<[(Cow<'static, str>, Value)]>);

impl Fields {
    /// Those.
    #[must_use]
    pub fn of<const N: usize>(fields: [(&'static str, Value); N]) -> Fields {
        let named = fields.map(|(name, value)| (Cow::Borrowed(name), value));
        Fields(Box::new(named))
    }

    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let mut fields = self.0.iter();
        let (_, value) = fields.find(|(field, _)| field == name)?;
        Some(value)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Fields, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    fields.push((Cow::Owned(name), value));
                }
                Ok(Fields(fields.into()))
            }
        }
        from.deserialize_map(Object)
    }
}
