"""A column more, as `makemigrations` writes it. Clients that are connected have it a moment later."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("todos", "0002_electrify")]

    operations = [
        migrations.AddField(
            model_name="todo",
            name="priority",
            field=models.IntegerField(db_index=True, default=0),
        ),
    ]
