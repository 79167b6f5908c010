//! JSON columns whose types are in `types`, which does not name sea-orm.

use sea_orm::{
    ActiveValue, ColIdx, DbErr, IntoActiveValue, QueryResult, TryGetError, TryGetable, Value,
    sea_query::{ArrayType, ColumnType, Nullable, ValueType, ValueTypeErr},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

/// A column that holds a value as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonColumn<T>(pub T);

impl<T: Serialize> From<JsonColumn<T>> for Value {
    /// The types of rows serialize to JSON without error: all their keys are strings.
    fn from(JsonColumn(value): JsonColumn<T>) -> Self {
        serde_json::to_value(value).unwrap_or_default().into()
    }
}

impl<T: DeserializeOwned> TryGetable for JsonColumn<T> {
    fn try_get_by<I: ColIdx>(found: &QueryResult, index: I) -> Result<Self, TryGetError> {
        let json = Json::try_get_by(found, index)?;
        let invalid = |error| DbErr::Type(format!("invalid {}: {error}", std::any::type_name::<T>()));
        Ok(Self(serde_json::from_value(json).map_err(invalid)?))
    }
}

impl<T: DeserializeOwned> ValueType for JsonColumn<T> {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        let json = <Json as ValueType>::try_from(value)?;
        serde_json::from_value(json).map(Self).map_err(|_| ValueTypeErr)
    }

    fn type_name() -> String {
        Json::type_name()
    }

    fn array_type() -> ArrayType {
        Json::array_type()
    }

    fn column_type() -> ColumnType {
        Json::column_type()
    }
}

impl<T> Nullable for JsonColumn<T> {
    fn null() -> Value {
        Json::null()
    }
}

impl<T: Serialize> IntoActiveValue<Self> for JsonColumn<T> {
    fn into_active_value(self) -> ActiveValue<Self> {
        ActiveValue::Set(self)
    }
}
