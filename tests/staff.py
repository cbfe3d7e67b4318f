"""Users who work in the shop."""

import uuid

from django.contrib.auth.models import Permission, User


def staff(*permissions):
    """Create a member of staff with permissions such as "testshop.view_product"; without any, a superuser."""
    name = uuid.uuid4().hex
    if not permissions:
        return User.objects.create_superuser(name)
    user = User.objects.create_user(name, is_staff=True)
    for permission in permissions:
        label, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=label, codename=codename))
    return user
