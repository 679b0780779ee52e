"""A campaign desk: campaigns are submitted to an advertising platform at the pace it allows, and followed."""

from orderup.shops.campaigns import (  # they register themselves
    placing as placing,
    polling as polling,
    submission as submission,
)
from orderup.shops.campaigns.adjust import adjust
from orderup.shops.campaigns.campaigns import facts_of_campaigns, prune_campaigns
from orderup.shops.campaigns.campaigns_api import desk
from orderup.shops.campaigns.front import front
from orderup.shops.campaigns.import_api import files
from orderup.shops.campaigns.pages import TEMPLATES
from orderup.shops.campaigns.plan import shop
from orderup.shops.campaigns.services import STAND_INS, open_services
from orderup.shops.campaigns.staff_pages import back
from orderup.shops.campaigns.tables import metadata

# before the campaigns: no campaign is called imports
front.include_router(files)
front.include_router(desk)
shop.front, shop.back = front, back
shop.tables, shop.templates = metadata, TEMPLATES
shop.resources, shop.stand_ins = open_services, STAND_INS
shop.adjust, shop.facts, shop.prune = adjust, facts_of_campaigns, prune_campaigns
shop.places = {
    "Campaigns": "/campaigns",
    "Imports": "/imports",
    "Customers' tasks": "/tasks",
    "Services": "/services",
}

__all__ = ["shop"]
