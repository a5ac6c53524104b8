//! What an object without a `spec` means.

/// Reads a missing `spec` as the default one.
///
/// An `L2Advertisement` of only `metadata` is the usual way to announce every pool, so `spec` may be absent in each kind
/// where it requires nothing. The derive for custom resources cannot mark its `spec` field as optional, but serde asks a
/// missing field's type whether it reads as an absent option; this makes the type answer with its default. The struct must
/// carry `#[serde(remote = "Self")]`, which turns the derived code into the inherent functions that are called here.
macro_rules! absent_is_default {
    ($spec:ty) => {
        impl<'de> serde::Deserialize<'de> for $spec {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct AbsentOrGiven;
                impl<'de> serde::de::Visitor<'de> for AbsentOrGiven {
                    type Value = $spec;

                    fn expecting(
                        &self,
                        formatter: &mut std::fmt::Formatter<'_>,
                    ) -> std::fmt::Result {
                        formatter.write_str(concat!("the fields of ", stringify!($spec)))
                    }

                    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
                        Ok(<$spec>::default())
                    }

                    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
                        Ok(<$spec>::default())
                    }

                    fn visit_some<D: serde::Deserializer<'de>>(
                        self,
                        deserializer: D,
                    ) -> Result<Self::Value, D::Error> {
                        <$spec>::deserialize(deserializer)
                    }
                }
                deserializer.deserialize_option(AbsentOrGiven)
            }
        }

        impl serde::Serialize for $spec {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$spec>::serialize(self, serializer)
            }
        }
    };
}

pub(crate) use absent_is_default;
