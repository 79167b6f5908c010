//! Columns of the enums in `types`, which does not name sea-orm.

use sea_orm::{
    ActiveValue, ColIdx, DbErr, IntoActiveValue, QueryResult, TryGetError, TryGetable, Value,
    sea_query::{ArrayType, ColumnType, Nullable, ValueType, ValueTypeErr},
};
use types::StringEnum;

/// A column that holds the text of an enum's variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextColumn<T>(pub T);

impl<T: StringEnum> From<TextColumn<T>> for Value {
    fn from(TextColumn(variant): TextColumn<T>) -> Self {
        variant.text().into()
    }
}

impl<T: StringEnum> TryGetable for TextColumn<T> {
    fn try_get_by<I: ColIdx>(found: &QueryResult, index: I) -> Result<Self, TryGetError> {
        let text = String::try_get_by(found, index)?;
        let unknown = || DbErr::Type(format!("unknown {}: {text}", std::any::type_name::<T>()));
        Ok(Self(T::from_text(&text).ok_or_else(unknown)?))
    }
}

impl<T: StringEnum> ValueType for TextColumn<T> {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        let text = <String as ValueType>::try_from(value)?;
        T::from_text(&text).map(Self).ok_or(ValueTypeErr)
    }

    fn type_name() -> String {
        String::type_name()
    }

    fn array_type() -> ArrayType {
        String::array_type()
    }

    fn column_type() -> ColumnType {
        ColumnType::Text
    }
}

impl<T: StringEnum> Nullable for TextColumn<T> {
    fn null() -> Value {
        String::null()
    }
}

impl<T: StringEnum> IntoActiveValue<Self> for TextColumn<T> {
    fn into_active_value(self) -> ActiveValue<Self> {
        ActiveValue::Set(self)
    }
}
